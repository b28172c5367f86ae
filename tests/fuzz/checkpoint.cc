// A model file of a checkpoint, and the weights that it holds.
#include "squish/io/checkpoint.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  static ThreadPool pool(1);
  const auto path = fuzz::put("model-00001-of-00001.safetensors", fuzz::text_of(data, size));
  io::TensorTable table;
  if (!fuzz::accepts([&] { io::read_checkpoint_file(path, table); })) return 0;
  for (const auto& [name, tensor] : table.tensors) {
    fuzz::accepts([&] { io::check_sums(tensor); });
    if (tensor.elements() <= (1u << 20)) fuzz::accepts([&] { io::read_matrix(tensor, pool); });
  }
  return 0;
}
