#include "squish/model/tokenizer.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/random.h"
#include "squish/io/tokenizer_files.h"
#include "squish/model/unicode.h"

namespace squish::model {
namespace {

namespace fs = std::filesystem;
using io::TokenizerData;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const fs::path kData = fs::path(SQUISH_TEST_DATA) / "tokenizer";

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

std::string digest(const std::vector<TokenId>& ids) {
  static_assert(std::endian::native == std::endian::little);
  return sha256(std::as_bytes(std::span(ids)));
}

std::string repeat(const std::string& text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

fs::path wikitext() {
  if (const char* folder = std::getenv("SQUISH_DATA")) return fs::path(folder) / "wiki.test.raw";
  return fs::path(SQUISH_TEST_DATA) / "../../../shared/data/wikitext-2/wiki.test.raw";
}

fs::path smollm2() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const fs::path base = cache ? fs::path(cache) : fs::path(home ? home : ".") / ".cache";
  return base / "squish/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

TokenizerData data_from_scores() {
  const json golden = json::parse(std::ifstream(kData / "scores/golden.json"));
  io::GgufFile file;
  file.path = "scores.gguf";
  file.metadata["tokenizer.ggml.model"] = std::string("llama");
  file.metadata["tokenizer.ggml.tokens"] = golden["tokens"].get<std::vector<std::string>>();
  file.metadata["tokenizer.ggml.scores"] = golden["scores"].get<std::vector<double>>();
  file.metadata["tokenizer.ggml.token_type"] = golden["types"].get<std::vector<std::int64_t>>();
  file.metadata["tokenizer.ggml.add_bos_token"] = false;
  file.metadata["tokenizer.ggml.unknown_token_id"] = std::uint64_t{0};
  return io::read_tokenizer(file);
}

/// The goldens of tests/golden/tokenizer.py.
class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const bool from_model = GetParam() == "smollm2";
    if (from_model && !fs::exists(smollm2())) {
      GTEST_SKIP() << smollm2() << " is missing: scripts/fetch_model.sh fetches it";
    }
    golden_ = json::parse(
        std::ifstream(kData / (from_model ? "smollm2.json" : GetParam() + "/golden.json")));
    tokenizer_.emplace(from_model               ? io::read_tokenizer(io::read_gguf(smollm2()))
                       : GetParam() == "scores" ? data_from_scores()
                                                : io::read_tokenizer(kData / GetParam()));
  }

  json golden_;
  std::optional<Tokenizer> tokenizer_;
};

TEST_P(Golden, HostileTexts) {
  for (const json& item : golden_["cases"]) {
    const std::string text = from_hex(item["text"]);
    const auto ids = tokenizer_->encode(text);
    EXPECT_EQ(ids, item["ids"].get<std::vector<TokenId>>()) << "text: " << text;
  }
}

TEST_P(Golden, DecodesHostileTexts) {
  const bool sentencepiece = tokenizer_->data().kind == TokenizerData::Kind::sentencepiece_bpe;
  for (const json& item : golden_["cases"]) {
    const auto ids = item["ids"].get<std::vector<TokenId>>();
    // Within a text the reference leaves the prefix that it put after a special token.
    const auto inner = std::count_if(ids.begin(), ids.end(), [&](TokenId id) {
      return tokenizer_->piece(id).empty() && id != tokenizer_->data().bos;
    });
    if (sentencepiece && inner > 0) continue;
    EXPECT_EQ(repair_utf8(tokenizer_->decode(ids)), from_hex(item["decoded"]));
  }
}

TEST_P(Golden, RepeatedTexts) {
  for (const json& item : golden_["repeated"]) {
    const auto ids = tokenizer_->encode(repeat(from_hex(item["text"]), item["times"]));
    EXPECT_EQ(ids.size(), item["count"]) << from_hex(item["text"]);
    EXPECT_EQ(digest(ids), item["sha256"]) << from_hex(item["text"]);
  }
}

TEST_P(Golden, WikiText) {
  if (!fs::exists(wikitext())) {
    GTEST_SKIP() << wikitext() << " is missing: scripts/fetch_text.sh fetches it";
  }
  const std::string text = read_text(wikitext(), 10'000'000);
  const auto start = std::chrono::steady_clock::now();
  const auto ids = tokenizer_->encode(text);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(ids.size(), golden_["wikitext"]["count"]);
  EXPECT_EQ(digest(ids), golden_["wikitext"]["sha256"]);
  RecordProperty("seconds", std::to_string(seconds.count()));
  EXPECT_LT(seconds.count(), 20);  // a release build takes half a second; sanitizers take ten
  // Metaspace puts nothing before the text's first space, and decoding takes that for its own.
  using SpacePrefix = TokenizerData::SpacePrefix;
  const SpacePrefix prefix = tokenizer_->data().space_prefix;
  const bool space_is_lost =
      prefix == SpacePrefix::unless_spaced || prefix == SpacePrefix::first_unless_spaced;
  EXPECT_TRUE(tokenizer_->decode(ids) == to_nfc(text).substr(space_is_lost ? 1 : 0));
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden,
                         testing::Values("smollm2", "qwen2", "llama3", "llama2", "mistral",
                                         "metaspace", "scores"),
                         [](const auto& value) { return value.param; });

}  // namespace
}  // namespace squish::model
