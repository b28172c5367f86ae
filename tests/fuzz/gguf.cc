// A GGUF file: its values and tensors, the architecture and tokenizer that they describe.
#include "squish/io/gguf.h"

#include "squish/io/architecture.h"
#include "squish/io/tokenizer_files.h"
#include "squish/model/tokenizer.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  static ThreadPool pool(1);
  const auto path = fuzz::put("model.gguf", fuzz::text_of(data, size));
  io::GgufFile file;
  if (!fuzz::accepts([&] { file = io::read_gguf(path); })) return 0;
  for (const auto& [name, tensor] : file.table.tensors) {
    if (tensor.elements() > size * 512) std::abort();  // no type has fewer than 0.5 bits a weight
    fuzz::accepts([&] { io::read_matrix(tensor, pool); });
  }
  fuzz::accepts([&] {
    const model::Tokenizer tokenizer(io::read_tokenizer(file));
    const std::string text = "It is 12 o'clock,\n  caf\xc3\xa9 <|im_end|> \xff";
    tokenizer.decode(tokenizer.encode(text));
  });
  fuzz::accepts([&] {
    const io::Architecture architecture = io::read_gguf_architecture(file);
    io::mark_interleaved_rows(file);
    const io::TensorTable table = io::hf_named_tensors(file, architecture.config);
    io::check_architecture(architecture, table, path);
    for (const auto& [name, tensor] : table.tensors) io::read_matrix(tensor, pool);
  });
  return 0;
}
