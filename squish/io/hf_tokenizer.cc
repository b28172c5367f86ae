#include "squish/io/hf_tokenizer.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "squish/base/error.h"
#include "squish/io/json.h"

namespace squish::io {
namespace {

using nlohmann::json;
using Kind = TokenizerData::Kind;
using Merge = std::pair<std::string, std::string>;

constexpr const char* kSpace = "\xE2\x96\x81";  // U+2581

/// As transformers' SentencePieceExtractor does.
std::vector<Merge> merges_from_scores(const TokenizerData& data) {
  std::unordered_map<std::string_view, std::uint32_t> ids;
  for (std::uint32_t id = 0; id < data.tokens.size(); ++id) ids.emplace(data.tokens[id], id);
  std::vector<std::uint32_t> order(data.tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return data.scores.at(a) > data.scores.at(b);
  });
  std::vector<Merge> merges;
  for (const std::uint32_t id : order) {
    const std::string_view token = data.tokens[id];
    std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end()) pairs.emplace_back(left->second, right->second);
    }
    std::sort(pairs.begin(), pairs.end());
    for (const auto& [left, right] : pairs) {
      merges.emplace_back(data.tokens[left], data.tokens[right]);
    }
  }
  return merges;
}

json vocabulary(const TokenizerData& data) {
  json vocabulary = json::object();
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    if (vocabulary.contains(data.tokens[id])) {
      fail("{}: two tokens are '{}', which tokenizer.json cannot hold", data.source,
           data.tokens[id]);
    }
    vocabulary[data.tokens[id]] = id;
  }
  return vocabulary;
}

json added_tokens(const TokenizerData& data) {
  json added = json::array();
  for (const auto& special : data.special) {
    added.push_back({{"id", special.id},
                     {"content", special.text},
                     {"single_word", false},
                     {"lstrip", special.strip_left},
                     {"rstrip", special.strip_right},
                     {"normalized", false},
                     {"special", special.control}});
  }
  return added;
}

json pre_tokenizer(const TokenizerData& data) {
  json steps = json::array();
  for (const std::string& pattern : data.patterns) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back({{"type", "ByteLevel"},
                   {"add_prefix_space", false},
                   {"trim_offsets", true},
                   {"use_regex", false}});
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

/// TemplateProcessing that puts BOS before and EOS after a text, as far as the model has it so.
json post_processor(const TokenizerData& data) {
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  json single = json::array(), special = json::object();
  const auto add = [&](bool wanted, const std::optional<std::uint32_t>& id) {
    if (!wanted || !id) return;
    const std::string& token = data.tokens.at(*id);
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    special[token] = {{"id", token}, {"ids", {*id}}, {"tokens", {token}}};
  };
  add(data.add_bos, data.bos);
  single.push_back(text);
  add(data.add_eos, data.eos);
  if (special.empty()) return nullptr;
  json pair = single;  // what our reader and generation ignore; the format wants it
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", special}};
}

json sentencepiece_normalizer(const TokenizerData& data) {
  json steps = json::array();
  if (data.space_prefix != TokenizerData::SpacePrefix::none) {
    steps.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  }
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

json sentencepiece_decoder(const TokenizerData& data) {
  json steps = {{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (data.space_prefix != TokenizerData::SpacePrefix::none) {
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return {{"type", "Sequence"}, {"decoders", steps}};
}

json tokenizer_json(const TokenizerData& data) {
  const bool bytes = data.kind == Kind::byte_level_bpe;
  json merges = json::array();
  for (const Merge& merge : data.scores.empty() ? data.merges : merges_from_scores(data)) {
    merges.push_back({merge.first, merge.second});
  }
  json normalizer;
  if (bytes && data.nfc) normalizer = {{"type", "NFC"}};
  if (!bytes) normalizer = sentencepiece_normalizer(data);
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens(data)},
          {"normalizer", normalizer},
          {"pre_tokenizer", bytes ? pre_tokenizer(data) : json()},
          {"post_processor", post_processor(data)},
          {"decoder", bytes ? json{{"type", "ByteLevel"},
                                   {"add_prefix_space", true},
                                   {"trim_offsets", true},
                                   {"use_regex", true}}
                            : sentencepiece_decoder(data)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", data.unknown ? json(data.tokens.at(*data.unknown)) : json()},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", !bytes},
            {"byte_fallback", !bytes},
            {"ignore_merges", data.ignore_merges},
            {"vocab", vocabulary(data)},
            {"merges", merges}}}};
}

json tokenizer_config(const TokenizerData& data) {
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"add_bos_token", data.add_bos},
                 {"add_eos_token", data.add_eos},
                 {"clean_up_tokenization_spaces", false}};
  if (data.bos) config["bos_token"] = data.tokens.at(*data.bos);
  if (data.eos) config["eos_token"] = data.tokens.at(*data.eos);
  if (data.unknown) config["unk_token"] = data.tokens.at(*data.unknown);
  if (!data.chat_template.empty()) config["chat_template"] = data.chat_template;
  return config;
}

}  // namespace

void write_hf_tokenizer(const TokenizerData& data, const std::filesystem::path& directory) {
  const auto write = [&](const char* name, const json& content) {
    try {
      write_atomically(directory / name, content.dump(1) + "\n");
    } catch (const json::type_error&) {
      fail("{}: cannot be written: a token of {} is not UTF-8", (directory / name).string(),
           data.source);
    }
  };
  write("tokenizer.json", tokenizer_json(data));
  write("tokenizer_config.json", tokenizer_config(data));
  if (!data.stop.empty()) write("generation_config.json", {{"eos_token_id", data.stop}});
}

}  // namespace squish::io
