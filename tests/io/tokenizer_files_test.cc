#include "squish/io/tokenizer_files.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/io/writers.h"

namespace squish::io {
namespace {

using namespace testing;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = TokenizerData::Kind;
using SpacePrefix = TokenizerData::SpacePrefix;

// ---- GGUF ----

GgufFile byte_level_gguf() {
  GgufFile file;
  file.path = "m.gguf";
  file.metadata["tokenizer.ggml.model"] = std::string("gpt2");
  file.metadata["tokenizer.ggml.pre"] = std::string("qwen2");
  file.metadata["tokenizer.ggml.tokens"] =
      std::vector<std::string>{"a", "b", "ab", "<|im_end|>", "<tool>", "[PAD]", "<|endoftext|>"};
  file.metadata["tokenizer.ggml.token_type"] = std::vector<std::int64_t>{1, 1, 1, 3, 4, 5, 3};
  file.metadata["tokenizer.ggml.merges"] = std::vector<std::string>{"a b"};
  file.metadata["tokenizer.ggml.eos_token_id"] = std::uint64_t{3};
  file.metadata["tokenizer.chat_template"] = std::string("{{ }}");
  return file;
}

GgufFile sentencepiece_gguf() {
  GgufFile file;
  file.path = "m.gguf";
  file.metadata["tokenizer.ggml.model"] = std::string("llama");
  file.metadata["tokenizer.ggml.tokens"] = std::vector<std::string>{"<unk>", "<s>", "</s>", "a"};
  file.metadata["tokenizer.ggml.scores"] = std::vector<double>{0, 0, 0, -1};
  file.metadata["tokenizer.ggml.token_type"] = std::vector<std::int64_t>{2, 3, 3, 1};
  file.metadata["tokenizer.ggml.bos_token_id"] = std::uint64_t{1};
  file.metadata["tokenizer.ggml.eos_token_id"] = std::uint64_t{2};
  file.metadata["tokenizer.ggml.unknown_token_id"] = std::uint64_t{0};
  return file;
}

TEST(GgufTokenizer, ByteLevel) {
  const TokenizerData data = read_tokenizer(byte_level_gguf());
  EXPECT_EQ(data.kind, Kind::byte_level_bpe);
  EXPECT_EQ(data.source, "m.gguf");
  EXPECT_EQ(data.tokens.size(), 7);
  EXPECT_THAT(data.merges, ElementsAre(std::pair("a", "b")));
  EXPECT_EQ(data.patterns.size(), 1);
  EXPECT_TRUE(data.nfc);
  EXPECT_FALSE(data.add_bos);
  EXPECT_FALSE(data.bos);
  EXPECT_EQ(data.eos, 3u);
  EXPECT_THAT(data.stop, ElementsAre(3, 6));
  ASSERT_EQ(data.special.size(), 3);
  EXPECT_EQ(data.special[1].text, "<tool>");
  EXPECT_FALSE(data.special[1].control);
  EXPECT_TRUE(data.special[2].control);
  EXPECT_EQ(data.chat_template, "{{ }}");
}

TEST(GgufTokenizer, SentencePiece) {
  GgufFile file = sentencepiece_gguf();
  TokenizerData data = read_tokenizer(file);
  EXPECT_EQ(data.kind, Kind::sentencepiece_bpe);
  EXPECT_EQ(data.scores, (std::vector<float>{0, 0, 0, -1}));
  EXPECT_TRUE(data.add_bos);
  EXPECT_FALSE(data.add_eos);
  EXPECT_EQ(data.space_prefix, SpacePrefix::always);
  EXPECT_EQ(data.unknown, 0u);
  file.metadata["tokenizer.ggml.add_bos_token"] = false;
  file.metadata["tokenizer.ggml.add_eos_token"] = true;
  file.metadata["tokenizer.ggml.add_space_prefix"] = false;
  data = read_tokenizer(file);
  EXPECT_FALSE(data.add_bos);
  EXPECT_TRUE(data.add_eos);
  EXPECT_EQ(data.space_prefix, SpacePrefix::none);
}

TEST(GgufTokenizer, NamesOfPreTokenizers) {
  const auto with = [](const std::string& name) {
    GgufFile file = byte_level_gguf();
    file.metadata["tokenizer.ggml.pre"] = name;
    return read_tokenizer(file);
  };
  EXPECT_EQ(with("smollm").patterns,
            (std::vector{std::string("\\p{N}"), with("gpt-2").patterns[0]}));
  EXPECT_TRUE(with("llama-bpe").ignore_merges);
  EXPECT_TRUE(with("llama-bpe").add_bos);
  EXPECT_THAT(with("llama3").patterns[0], HasSubstr("\\p{N}{1,3}"));
  EXPECT_EQ(with("deepseek-r1-qwen").patterns, with("qwen2").patterns);
  EXPECT_FALSE(with("deepseek-r1-qwen").nfc);
  GgufFile unnamed = byte_level_gguf();
  unnamed.metadata.erase("tokenizer.ggml.pre");
  EXPECT_EQ(read_tokenizer(unnamed).patterns, with("default").patterns);
  EXPECT_THAT(error_of([&] { with("bert"); }), HasSubstr("m.gguf: tokenizer.ggml.pre is 'bert'"));
}

TEST(GgufTokenizer, NoTokenizerIsNoError) {
  GgufFile file;
  file.path = "m.gguf";
  EXPECT_EQ(read_tokenizer(file).kind, Kind::none);
}

TEST(GgufTokenizer, MalformedMetadataIsAnError) {
  const auto error = [](const char* key, std::optional<GgufValue> value, GgufFile file) {
    file.metadata.erase(std::string("tokenizer.ggml.") + key);
    if (value) file.metadata[std::string("tokenizer.ggml.") + key] = *value;
    return error_of([&] { read_tokenizer(file); });
  };
  const GgufFile gpt2 = byte_level_gguf(), llama = sentencepiece_gguf();
  using Texts = std::vector<std::string>;
  using Integers = std::vector<std::int64_t>;
  EXPECT_THAT(error("model", std::string("bert"), gpt2), HasSubstr("expected gpt2 or llama"));
  EXPECT_THAT(error("model", std::uint64_t{2}, gpt2), HasSubstr("expected a string"));
  EXPECT_THAT(error("tokens", {}, gpt2), HasSubstr("lack 'tokenizer.ggml.tokens'"));
  EXPECT_THAT(error("tokens", Integers{1}, gpt2), HasSubstr("expected an array of strings"));
  EXPECT_THAT(error("merges", {}, gpt2), HasSubstr("lack 'tokenizer.ggml.merges'"));
  for (const char* merge : {"", " ", "a", "ab ", " ab", "a b c"}) {
    EXPECT_THAT(error("merges", Texts{merge}, gpt2), HasSubstr("is not two tokens and a space"));
  }
  EXPECT_THAT(error("token_type", Integers{1, 1}, gpt2), HasSubstr("2 token types for 7 tokens"));
  EXPECT_THAT(error("eos_token_id", std::uint64_t{7}, gpt2), HasSubstr("beyond the vocabulary"));
  EXPECT_THAT(error("eot_token_id", ~std::uint64_t{0}, gpt2), HasSubstr("beyond the vocabulary"));
  EXPECT_THAT(error("scores", {}, llama), HasSubstr("lack 'tokenizer.ggml.scores'"));
  EXPECT_THAT(error("add_bos_token", std::string("yes"), llama), HasSubstr("expected a flag"));
}

// ---- tokenizer.json ----

json byte_level_json() {
  return json::parse(R"({
    "added_tokens": [
      {"id": 3, "content": "<|im_end|>", "special": true, "lstrip": true},
      {"id": 0, "content": "a", "rstrip": true}
    ],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Digits", "individual_digits": true},
      {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}
    ]},
    "post_processor": null,
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "vocab": {"a": 0, "b": 1, "ab": 2},
              "merges": ["a b"], "ignore_merges": true}
  })");
}

json sentencepiece_json() {
  return json::parse(R"({
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true},
                     {"id": 1, "content": "<s>", "special": true},
                     {"id": 2, "content": "</s>", "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "post_processor": {"type": "TemplateProcessing", "single": [
      {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
      {"SpecialToken": {"id": "</s>", "type_id": 0}}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true,
              "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "▁a": 5},
              "merges": [["▁", "a"]]}
  })");
}

class HuggingFaceTokenizer : public ::testing::Test {
 protected:
  TokenizerData read(const json& tokenizer) {
    directory_.write("tokenizer.json", tokenizer.dump());
    return read_tokenizer(directory_.path());
  }
  std::string error(const json& tokenizer) {
    return error_of([&] { read(tokenizer); });
  }
  /// The error after the member at `pointer` was replaced.
  std::string error(json tokenizer, const std::string& pointer, const json& value) {
    tokenizer[json::json_pointer(pointer)] = value;
    return error(tokenizer);
  }

  TemporaryDirectory directory_;
};

TEST_F(HuggingFaceTokenizer, ByteLevel) {
  const TokenizerData data = read(byte_level_json());
  EXPECT_EQ(data.kind, Kind::byte_level_bpe);
  EXPECT_THAT(data.tokens, ElementsAre("a", "b", "ab", "<|im_end|>"));
  EXPECT_THAT(data.merges, ElementsAre(std::pair("a", "b")));
  ASSERT_EQ(data.patterns.size(), 3);
  EXPECT_EQ(data.patterns[1], "x+");
  EXPECT_TRUE(data.nfc && data.ignore_merges);
  EXPECT_FALSE(data.add_bos || data.add_eos || data.bos || data.eos);
  EXPECT_THAT(data.stop, ElementsAre(3));
  EXPECT_TRUE(data.special[0].control && data.special[0].strip_left);
  EXPECT_TRUE(!data.special[1].control && data.special[1].strip_right);
}

TEST_F(HuggingFaceTokenizer, SentencePiece) {
  const TokenizerData data = read(sentencepiece_json());
  EXPECT_EQ(data.kind, Kind::sentencepiece_bpe);
  EXPECT_EQ(data.space_prefix, SpacePrefix::always);
  EXPECT_TRUE(data.add_bos && data.add_eos);
  EXPECT_EQ(data.bos, 1u);
  EXPECT_EQ(data.eos, 2u);
  EXPECT_EQ(data.unknown, 0u);
}

TEST_F(HuggingFaceTokenizer, Metaspace) {
  json tokenizer = sentencepiece_json();
  tokenizer["normalizer"] = nullptr;
  json& splitter = tokenizer["pre_tokenizer"];
  splitter = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
  EXPECT_EQ(read(tokenizer).space_prefix, SpacePrefix::first_unless_spaced);
  EXPECT_FALSE(read(tokenizer).split_at_spaces);
  splitter = {{"type", "Metaspace"}, {"replacement", "▁"}, {"add_prefix_space", true}};
  EXPECT_EQ(read(tokenizer).space_prefix, SpacePrefix::unless_spaced);
  EXPECT_TRUE(read(tokenizer).split_at_spaces);
  splitter["add_prefix_space"] = false;
  EXPECT_EQ(read(tokenizer).space_prefix, SpacePrefix::none);
}

TEST_F(HuggingFaceTokenizer, TheFilesBesideIt) {
  directory_.write("tokenizer_config.json", R"({"bos_token": {"content": "ab"}, "eos_token": "b",
    "add_bos_token": true, "chat_template": [{"name": "tool_use", "template": "T"},
                                             {"name": "default", "template": "D"}]})");
  directory_.write("generation_config.json", R"({"eos_token_id": [1, 2, 99]})");
  directory_.write("config.json", R"({"eos_token_id": 0})");  // generation_config.json wins
  TokenizerData data = read(byte_level_json());
  EXPECT_EQ(data.bos, 2u);
  EXPECT_EQ(data.eos, 1u);
  EXPECT_TRUE(data.add_bos);
  EXPECT_EQ(data.chat_template, "D");
  EXPECT_THAT(data.stop, ElementsAre(1, 3, 2));
  directory_.write("chat_template.jinja", "J");
  EXPECT_EQ(read(byte_level_json()).chat_template, "J");
  // What tokenizer.json adds around a text goes before the flags of tokenizer_config.json.
  directory_.write("tokenizer_config.json", R"({"add_bos_token": false, "eos_token": "a"})");
  data = read(sentencepiece_json());
  EXPECT_TRUE(data.add_bos);
  EXPECT_EQ(data.eos, 2u);
  for (const char* wrong :
       {R"({"eos_token": 3})", R"({"eos_token": "zz"})", "[]", "{",
        R"({"add_bos_token": 1, "bos_token": null})", R"({"chat_template": 7})"}) {
    directory_.write("tokenizer_config.json", wrong);
    EXPECT_THAT(error(byte_level_json()), HasSubstr("token")) << wrong;
  }
}

TEST_F(HuggingFaceTokenizer, NoTokenizerIsNoError) {
  EXPECT_EQ(read_tokenizer(directory_.path()).kind, Kind::none);
}

TEST_F(HuggingFaceTokenizer, IdsWithoutGapsOrDuplicates) {
  const json good = byte_level_json();
  for (const json& id :
       json::parse(R"([-1, 4, 4294967295, 18446744073709551615, 1e300, 0.5, "1", null])")) {
    EXPECT_THAT(error(good, "/model/vocab/b", id), HasSubstr("expected one from 0 to 3")) << id;
  }
  EXPECT_THAT(error(good, "/model/vocab/b", 0), HasSubstr("the id 0 belongs to two tokens"));
  EXPECT_THAT(error(good, "/added_tokens/0/id", 1), HasSubstr("the id 1 belongs to two tokens"));
  EXPECT_THAT(error(good, "/added_tokens/1/id", 1), HasSubstr("'a' has two ids, 0 and 1"));
  EXPECT_THAT(error(good, "/added_tokens/0/id", nullptr), HasSubstr("'<|im_end|>' has no id"));
}

TEST_F(HuggingFaceTokenizer, WrongTypesAreErrors) {
  const json good = byte_level_json();
  EXPECT_EQ(error(good), "no error");
  for (const char* pointer : {"/model",
                              "/model/vocab",
                              "/model/merges",
                              "/model/merges/0",
                              "/model/unk_token",
                              "/model/dropout",
                              "/model/ignore_merges",
                              "/added_tokens",
                              "/added_tokens/0",
                              "/added_tokens/0/content",
                              "/added_tokens/0/special",
                              "/normalizer",
                              "/pre_tokenizer",
                              "/pre_tokenizer/type",
                              "/pre_tokenizer/pretokenizers",
                              "/pre_tokenizer/pretokenizers/0",
                              "/pre_tokenizer/pretokenizers/1/pattern",
                              "/pre_tokenizer/pretokenizers/1/pattern/Regex",
                              "/pre_tokenizer/pretokenizers/2/use_regex",
                              "/post_processor"}) {
    for (const json& wrong : json::parse(R"([7, "seven", [7], {"seven": 7}])")) {
      if (pointer == std::string("/model/dropout") && wrong == 7) continue;  // its own message
      if (pointer == std::string("/added_tokens/0/content") && wrong == "seven") continue;
      if (pointer == std::string("/pre_tokenizer/pretokenizers/1/pattern/Regex") &&
          wrong == "seven")
        continue;
      const std::string message = error(good, pointer, wrong);
      EXPECT_THAT(message, HasSubstr("tokenizer.json: ")) << pointer << " " << wrong;
    }
  }
}

TEST_F(HuggingFaceTokenizer, WhatIsNotSupportedIsSaid) {
  const json good = byte_level_json();
  EXPECT_THAT(error(good, "/model/type", "Unigram"), HasSubstr("is 'Unigram', only BPE"));
  EXPECT_THAT(error(good, "/model/end_of_word_suffix", "</w>"), HasSubstr("not supported"));
  EXPECT_THAT(error(good, "/model/dropout", 0.1), HasSubstr("dropout is not supported"));
  EXPECT_THAT(error(good, "/model/unk_token", "zz"), HasSubstr("lacks the token 'zz'"));
  EXPECT_THAT(error(good, "/normalizer/type", "NFKC"), HasSubstr("NFKC of this form"));
  EXPECT_THAT(error(good, "/pre_tokenizer/pretokenizers/1/behavior", "Removed"),
              HasSubstr("Split of this form"));
  EXPECT_THAT(error(good, "/pre_tokenizer/pretokenizers/2/add_prefix_space", true),
              HasSubstr("ByteLevel of this form"));
  EXPECT_THAT(error(good, "/pre_tokenizer", nullptr), HasSubstr("neither byte-level nor"));
  EXPECT_THAT(error(good, "/added_tokens/0/single_word", true), HasSubstr("single_word"));
  EXPECT_THAT(error(sentencepiece_json(), "/post_processor/type", "BertProcessing"),
              HasSubstr("BertProcessing of this form"));
  EXPECT_THAT(
      error(sentencepiece_json(), "/post_processor/single/1", {{"SpecialToken", {{"id", "<s>"}}}}),
      HasSubstr("two tokens on one side"));
}

TEST_F(HuggingFaceTokenizer, TruncatedAtEveryByte) {
  const std::string text = byte_level_json().dump();
  for (std::size_t length = 0; length < text.size(); ++length) {
    directory_.write("tokenizer.json", text.substr(0, length));
    EXPECT_THAT(error_of([&] { read_tokenizer(directory_.path()); }),
                HasSubstr("tokenizer.json: not valid JSON"));
  }
}

}  // namespace
}  // namespace squish::io
