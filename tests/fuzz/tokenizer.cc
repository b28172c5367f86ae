// A tokenizer.json, and what it makes of a text.
#include "squish/model/tokenizer.h"

#include "squish/io/tokenizer_files.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  fuzz::put("tokenizer.json", fuzz::text_of(data, size));
  fuzz::accepts([&] {
    const model::Tokenizer tokenizer(io::read_tokenizer(fuzz::folder()));
    for (const std::string text :
         {"", "It is 12 o'clock,\n  caf\xc3\xa9 <|im_end|>", "\xff\xc3 \xe2\x96\x81"}) {
      const auto ids = tokenizer.encode(text);
      fuzz::require(ids == tokenizer.encode(text), "a text has one encoding");
      tokenizer.decode(ids);
      tokenizer.decode(ids, true);
    }
  });
  return 0;
}
