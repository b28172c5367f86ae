#include "squish/io/hf_tokenizer.h"

#include <gmock/gmock.h>

#include "squish/io/own_tokenizer.h"
#include "squish/io/tokenizer_files.h"
#include "squish/model/tokenizer.h"
#include "tests/io/writers.h"

namespace squish::io {
namespace {

using namespace testing;
using ::testing::HasSubstr;
using Kind = TokenizerData::Kind;

void expect_same(const TokenizerData& a, const TokenizerData& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.patterns, b.patterns);
  EXPECT_EQ(a.special.size(), b.special.size());
  for (std::size_t i = 0; i < a.special.size() && i < b.special.size(); ++i) {
    EXPECT_EQ(a.special[i].id, b.special[i].id);
    EXPECT_EQ(a.special[i].text, b.special[i].text);
    EXPECT_EQ(a.special[i].control, b.special[i].control);
  }
  EXPECT_EQ(a.bos, b.bos);
  EXPECT_EQ(a.eos, b.eos);
  EXPECT_EQ(a.unknown, b.unknown);
  EXPECT_EQ(a.stop, b.stop);
  EXPECT_EQ(a.add_bos, b.add_bos);
  EXPECT_EQ(a.add_eos, b.add_eos);
  EXPECT_EQ(a.space_prefix, b.space_prefix);
  EXPECT_EQ(a.nfc, b.nfc);
  EXPECT_EQ(a.ignore_merges, b.ignore_merges);
  EXPECT_EQ(a.chat_template, b.chat_template);
}

TokenizerData byte_level() {
  TokenizerData data;
  data.kind = Kind::byte_level_bpe;
  data.source = "m.gguf";
  data.tokens = {"a", "b", "ab", "\xC4\xA0", "<s>", "</s>", "<tool>"};
  data.merges = {{"a", "b"}};
  data.patterns = {R"(\p{N})", R"(\s+(?!\S)|\s+)"};
  data.special = {{4, "<s>", true}, {5, "</s>", true}, {6, "<tool>", false}};
  data.bos = 4;
  data.eos = 5;
  data.stop = {5, 6};
  data.add_bos = data.nfc = data.ignore_merges = true;
  data.chat_template = "{{ messages }}";
  return data;
}

TokenizerData sentencepiece() {
  TokenizerData data;
  data.kind = Kind::sentencepiece_bpe;
  data.source = "m.gguf";
  data.tokens = {"<unk>", "<s>", "</s>", "<0x21>", "\xE2\x96\x81", "a", "b", "ab", "ba", "aba"};
  data.scores = {0, 0, 0, 0, -9, -8, -7, -2, -1, -3};
  data.special = {{0, "<unk>", true}, {1, "<s>", true}, {2, "</s>", true}};
  data.bos = 1;
  data.eos = 2;
  data.unknown = 0;
  data.stop = {2};
  data.add_bos = true;
  data.space_prefix = TokenizerData::SpacePrefix::always;
  return data;
}

TEST(HfTokenizer, WhatIsWrittenReadsAsTheSameByteLevelTokenizer) {
  const TemporaryDirectory directory;
  write_hf_tokenizer(byte_level(), directory.path());
  const TokenizerData read = read_tokenizer(directory.path());
  expect_same(read, byte_level());
  EXPECT_EQ(read.merges, byte_level().merges);
}

TEST(HfTokenizer, ScoresBecomeMergesThatGiveTheSameTokens) {
  const TemporaryDirectory directory;
  write_hf_tokenizer(sentencepiece(), directory.path());
  const TokenizerData read = read_tokenizer(directory.path());
  expect_same(read, sentencepiece());
  const model::Tokenizer own(sentencepiece()), other(read);
  for (const char* text : {"", "a", "ab", "aba", "abab", "babab", " a  b!", "abba <s> b"}) {
    EXPECT_EQ(own.encode(text), other.encode(text)) << text;
  }
}

TEST(OwnTokenizer, RoundTrips) {
  const TemporaryDirectory directory;
  for (const TokenizerData& data : {byte_level(), sentencepiece()}) {
    write_own_tokenizer(data, directory.path() / kTokenizerFile);
    const TokenizerData read = read_tokenizer(directory.path());
    expect_same(read, data);
    EXPECT_EQ(read.merges, data.merges);
    EXPECT_EQ(read.scores, data.scores);
  }
}

TEST(OwnTokenizer, RefusesWhatIsBroken) {
  const TemporaryDirectory directory;
  write_own_tokenizer(byte_level(), directory.path() / kTokenizerFile);
  const auto whole =
      nlohmann::json::parse(read_text(directory.path() / kTokenizerFile, std::size_t{1} << 20));
  const auto error_with = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json changed = whole;
    changed[key] = value;
    directory.write(kTokenizerFile, changed.dump());
    return error_of([&] { read_tokenizer(directory.path()); });
  };
  EXPECT_THAT(error_with("kind", "unigram"), HasSubstr("unigram"));
  EXPECT_THAT(error_with("tokens", 3), HasSubstr("'tokens' must hold"));
  EXPECT_THAT(error_with("tokens", {1, 2}), HasSubstr("'tokens' must hold strings"));
  EXPECT_THAT(error_with("merges", {"a b"}), HasSubstr("pairs of strings"));
  EXPECT_THAT(error_with("bos", 7), HasSubstr("numbers below 7"));
  EXPECT_THAT(error_with("stop", {-1}), HasSubstr("numbers below 7"));
  EXPECT_THAT(error_with("space_prefix", 4), HasSubstr("numbers below 4"));
  EXPECT_THAT(error_with("special", {{{"id", 9}, {"text", "x"}}}), HasSubstr("numbers below 7"));
  TokenizerData data = byte_level();
  data.tokens[0] = "\xFF";
  EXPECT_THAT(error_of([&] { write_own_tokenizer(data, directory.path() / kTokenizerFile); }),
              HasSubstr("not UTF-8"));
}

}  // namespace
}  // namespace squish::io
