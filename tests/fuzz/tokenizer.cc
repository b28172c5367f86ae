// A tokenizer.json or squish_tokenizer.json, and what it makes of a text.
#include "squish/model/tokenizer.h"

#include <filesystem>

#include "squish/io/tokenizer_files.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  static const bool have_folders = std::filesystem::create_directory(fuzz::folder() / "hf") &&
                                   std::filesystem::create_directory(fuzz::folder() / "own");
  fuzz::require(have_folders, "there are folders");
  const auto theirs = fuzz::put("hf/tokenizer.json", fuzz::text_of(data, size)).parent_path();
  const auto own = fuzz::put("own/squish_tokenizer.json", fuzz::text_of(data, size)).parent_path();
  const auto tries = [](const std::filesystem::path& folder) {
    const model::Tokenizer tokenizer(io::read_tokenizer(folder));
    for (const std::string text :
         {"", "It is 12 o'clock,\n  caf\xc3\xa9 <|im_end|>", "\xff\xc3 \xe2\x96\x81"}) {
      const auto ids = tokenizer.encode(text);
      fuzz::require(ids == tokenizer.encode(text), "a text has one encoding");
      tokenizer.decode(ids);
      tokenizer.decode(ids, true);
    }
  };
  fuzz::accepts([&] { tries(theirs); });
  fuzz::accepts([&] { tries(own); });
  return 0;
}
