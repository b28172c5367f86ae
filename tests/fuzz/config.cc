// A config.json of Hugging Face's.
#include "squish/io/architecture.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  const auto path = fuzz::put("config.json", fuzz::text_of(data, size));
  io::Architecture read;
  if (!fuzz::accepts([&] { read = io::read_hf_config(path); })) return 0;
  const io::ModelConfig& c = read.config;
  fuzz::require(c.vocab > 0 && c.hidden > 0 && c.layers > 0 && c.heads > 0 && c.kv_heads > 0,
                "sizes are not zero");
  fuzz::accepts([&] { io::check_architecture(read, {}, path); });
  return 0;
}
