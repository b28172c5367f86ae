#include "squish/io/tokenizer_files.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/io/json.h"
#include "squish/io/own_tokenizer.h"

namespace squish::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Kind = TokenizerData::Kind;
using SpacePrefix = TokenizerData::SpacePrefix;

constexpr std::size_t kMaxTokenizerJson = std::size_t{128} << 20;
constexpr std::size_t kMaxConfig = std::size_t{4} << 20;
constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// The pre-tokenisers' patterns, as their models' tokenizer.json files have them.
constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                               R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// The ids that end an answer: EOS and the ends of turns and texts that chat models use.
void add_stop(TokenizerData& data, std::uint32_t id) {
  if (std::find(data.stop.begin(), data.stop.end(), id) == data.stop.end()) data.stop.push_back(id);
}

void add_usual_stops(TokenizerData& data) {
  if (data.eos) add_stop(data, *data.eos);
  for (const auto& special : data.special) {
    for (const char* text : {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>"}) {
      if (special.text == text) add_stop(data, special.id);
    }
  }
}

std::pair<std::string, std::string> parse_merge(const std::string& merge,
                                                const std::string& where) {
  const std::size_t space = merge.find(' ');
  if (space == 0 || space >= merge.size() - 1 || merge.find(' ', space + 1) != std::string::npos) {
    fail("{}: the merge '{}' is not two tokens and a space between them", where, merge);
  }
  return {merge.substr(0, space), merge.substr(space + 1)};
}

// ---- GGUF ----

/// llama.cpp's names of pre-tokenisers, for the families that squish knows.
void set_pre_tokenizer(TokenizerData& data, const std::string& name) {
  if (name == "gpt-2") {
    data.patterns = {kGpt2};
  } else if (name == "smollm") {
    data.patterns = {R"(\p{N})", kGpt2};
  } else if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    data.patterns = {kLlama3};
    data.ignore_merges = data.add_bos = true;
  } else if (name == "qwen2") {
    data.patterns = {kQwen2};
    data.nfc = true;
  } else if (name == "deepseek-r1-qwen") {
    data.patterns = {kQwen2};
  } else if (name == "default") {
    // No model's own: what llama.cpp does with files that do not say.
    data.patterns = {R"([\p{P}\$\+<=>\^~\|]+)",
                     R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))",
                     R"(\p{N}+)", "[0-9][0-9][0-9]"};
  } else {
    fail(
        "{}: tokenizer.ggml.pre is '{}', expected gpt-2, smollm, llama-bpe, qwen2, "
        "deepseek-r1-qwen or default",
        data.source, name);
  }
}

std::optional<std::uint32_t> id_at(const GgufFile& file, const TokenizerData& data,
                                   std::string_view key) {
  if (!file.metadata.contains(key)) return {};
  const std::uint64_t id = file.unsigned_at(key);
  if (id >= data.tokens.size()) {
    fail("{}: {} is {}, beyond the vocabulary of {} tokens", data.source, key, id,
         data.tokens.size());
  }
  return static_cast<std::uint32_t>(id);
}

/// Control and user-defined tokens, by tokenizer.ggml.token_type.
void read_token_types(const GgufFile& file, TokenizerData& data) {
  enum Type { normal = 1, unknown, control, user_defined, unused, byte };
  const auto* types = file.integers("tokenizer.ggml.token_type");
  if (types == nullptr) return;
  if (types->size() != data.tokens.size()) {
    fail("{}: {} token types for {} tokens", data.source, types->size(), data.tokens.size());
  }
  for (std::uint32_t id = 0; id < types->size(); ++id) {
    const std::int64_t type = (*types)[id];
    if (type == unknown || type == control || type == user_defined) {
      data.special.push_back({id, data.tokens[id], type != user_defined});
    }
  }
}

// ---- tokenizer.json ----

class TokenizerJson {
 public:
  TokenizerJson(const json& root, TokenizerData& data)
      : root_(root, data.source), data_(data), where_(data.source) {}

  void read() {
    const json* model = root_.find("model");
    if (model == nullptr) fail("{}: 'model' is missing", where_);
    const Fields fields(*model, where_ + ": model");
    if (const std::string type = fields.text_or("type", "BPE"); type != "BPE") {
      fail("{}: the tokenizer model is '{}', only BPE is supported", where_, type);
    }
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!fields.text_or(affix, "").empty()) fail("{}: {} is not supported", where_, affix);
    }
    if (fields.real_or("dropout", 0) != 0) fail("{}: dropout is not supported", where_);
    data_.ignore_merges = fields.flag_or("ignore_merges", false);
    read_vocabulary(fields);
    read_merges(fields);
    if (const std::string unknown = fields.text_or("unk_token", ""); !unknown.empty()) {
      data_.unknown = id_of(unknown);
    }
    if (const json* normalizer = root_.find("normalizer")) read_normalizer(*normalizer);
    if (const json* splitter = root_.find("pre_tokenizer")) read_pre_tokenizer(*splitter);
    if (const json* processor = root_.find("post_processor")) read_post_processor(*processor);
    data_.kind = byte_level_ ? Kind::byte_level_bpe : Kind::sentencepiece_bpe;
    if (byte_level_ == spaces_replaced_ || (!byte_level_ && !data_.patterns.empty())) {
      fail("{}: neither byte-level nor SentencePiece-style BPE", where_);
    }
  }

  std::uint32_t id_of(const std::string& token) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) fail("{}: the vocabulary lacks the token '{}'", where_, token);
    return found->second;
  }

  /// A post-processor said what is added around a text.
  bool has_template() const { return has_template_; }

 private:
  void read_vocabulary(const Fields& model) {
    static const json kNone = json::array();
    const json* vocabulary = model.find("vocab");
    if (vocabulary == nullptr || !vocabulary->is_object()) {
      fail("{}: 'vocab' must be an object", model.where());
    }
    const json* listed = root_.find("added_tokens");
    const json& added = listed != nullptr ? *listed : kNone;
    if (!added.is_array()) fail("{}: 'added_tokens' must be an array", where_);

    // Each token has one id below their number, so there are neither gaps nor duplicates.
    std::size_t count = vocabulary->size();
    for (const json& token : added) {
      count += !vocabulary->contains(Fields(token, where_ + ": added_tokens").text("content"));
    }
    data_.tokens.resize(count);
    for (const auto& [text, id] : vocabulary->items()) place(text, id);
    for (const json& entry : added) {
      const Fields token(entry, where_ + ": added_tokens");
      const std::string text = token.text("content");
      if (token.flag_or("single_word", false)) {
        fail("{}: the added token '{}' is a single_word, which is not supported", where_, text);
      }
      const json* id = token.find("id");
      if (id == nullptr) fail("{}: the added token '{}' has no id", where_, text);
      const auto known = ids_.find(text);
      if (known == ids_.end()) {
        place(text, *id);
      } else if (*id != known->second) {
        fail("{}: the token '{}' has two ids, {} and {}", where_, text, known->second, id->dump());
      }
      data_.special.push_back({ids_[text], text, token.flag_or("special", false),
                               token.flag_or("lstrip", false), token.flag_or("rstrip", false)});
    }
  }

  void place(const std::string& text, const json& id) {
    const std::size_t count = data_.tokens.size();
    if (!id.is_number_unsigned() || id >= count) {
      fail("{}: the token '{}' has the id {}, expected one from 0 to {}, without gaps", where_,
           text, id.dump(), count - 1);
    }
    const auto index = id.get<std::uint32_t>();
    if (used_.empty()) used_.resize(count);
    if (used_[index]) fail("{}: the id {} belongs to two tokens", where_, index);
    used_[index] = true;
    data_.tokens[index] = text;
    ids_[text] = index;
  }

  void read_merges(const Fields& model) {
    const json* merges = model.find("merges");
    if (merges == nullptr || !merges->is_array()) {
      fail("{}: 'merges' must be an array", model.where());
    }
    data_.merges.reserve(merges->size());
    for (const json& merge : *merges) {
      if (merge.is_string()) {
        data_.merges.push_back(parse_merge(merge.get_ref<const std::string&>(), where_));
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        data_.merges.emplace_back(merge[0], merge[1]);
      } else {
        fail("{}: a merge is neither a string nor a pair of strings", where_);
      }
    }
  }

  /// Calls `read` for a step, or for each step of a Sequence.
  template <class Read>
  void each_step(const json& step, const char* name, const char* list, const Read& read) {
    const Fields fields(step, fmt::format("{}: {}", where_, name));
    const std::string type = fields.text("type");
    if (type != "Sequence") return read(fields, type);
    const json* steps = fields.find(list);
    if (steps == nullptr || !steps->is_array()) {
      fail("{}: '{}' must be an array", fields.where(), list);
    }
    for (const json& inner : *steps) each_step(inner, name, list, read);
  }

  void read_normalizer(const json& normalizer) {
    each_step(normalizer, "normalizer", "normalizers", [&](const Fields& step, const auto& type) {
      if (type == "NFC") {
        data_.nfc = true;
      } else if (type == "Prepend" && step.text("prepend") == kSpace) {
        data_.space_prefix = SpacePrefix::always;
      } else if (type == "Replace" && step.text("content") == kSpace &&
                 pattern(step, "String") == " ") {
        spaces_replaced_ = true;
      } else {
        fail("{}: {} of this form is not supported", step.where(), type);
      }
    });
  }

  void read_pre_tokenizer(const json& splitter) {
    const auto read = [&](const Fields& step, const std::string& type) {
      if (byte_level_) fail("{}: {} after ByteLevel is not supported", step.where(), type);
      if (type == "ByteLevel" && !step.flag_or("add_prefix_space", true)) {
        byte_level_ = true;
        if (step.flag_or("use_regex", true)) data_.patterns.push_back(kGpt2);
      } else if (type == "Digits") {
        data_.patterns.push_back(step.flag_or("individual_digits", false) ? R"(\p{N})"
                                                                          : R"(\p{N}+)");
      } else if (type == "Split" && step.text("behavior") == "Isolated" &&
                 !step.flag_or("invert", false)) {
        data_.patterns.push_back(pattern(step, "Regex"));
      } else if (type == "Metaspace" && step.text("replacement") == kSpace) {
        spaces_replaced_ = true;
        data_.split_at_spaces = step.flag_or("split", true);
        const bool add = step.flag_or("add_prefix_space", true);  // the older form
        const std::string scheme = step.text_or("prepend_scheme", add ? "always" : "never");
        data_.space_prefix = scheme == "always"  ? SpacePrefix::unless_spaced
                             : scheme == "first" ? SpacePrefix::first_unless_spaced
                                                 : SpacePrefix::none;
      } else {
        fail("{}: {} of this form is not supported", step.where(), type);
      }
    };
    each_step(splitter, "pre_tokenizer", "pretokenizers", read);
  }

  std::string pattern(const Fields& step, const char* kind) {
    const json* pattern = step.find("pattern");
    if (pattern == nullptr) fail("{}: 'pattern' is missing", step.where());
    return Fields(*pattern, step.where() + ": pattern").text(kind);
  }

  void read_post_processor(const json& processor) {
    const auto read = [&](const Fields& step, const std::string& type) {
      if (type == "ByteLevel") return;  // offsets only
      const json* single = step.find("single");
      if (type != "TemplateProcessing" || single == nullptr || !single->is_array()) {
        fail("{}: {} of this form is not supported", step.where(), type);
      }
      has_template_ = true;
      bool after_text = false;
      for (const json& item : *single) {
        const Fields fields(item, step.where());
        const json* special = fields.find("SpecialToken");
        if (special == nullptr) {
          after_text = true;
          continue;
        }
        const std::uint32_t id = id_of(Fields(*special, step.where()).text("id"));
        bool& add = after_text ? data_.add_eos : data_.add_bos;
        if (add) fail("{}: two tokens on one side of the text are not supported", step.where());
        add = true;
        (after_text ? data_.eos : data_.bos) = id;
      }
    };
    each_step(processor, "post_processor", "processors", read);
  }

  Fields root_;
  TokenizerData& data_;
  const std::string& where_;
  std::unordered_map<std::string, std::uint32_t> ids_;
  std::vector<bool> used_;
  bool byte_level_ = false, spaces_replaced_ = false, has_template_ = false;
};

/// "bos_token": "<s>" or {"content": "<s>", ...}.
std::string special_text(const Fields& config, const char* key) {
  const json* value = config.find(key);
  if (value == nullptr || !value->is_object()) return config.text_or(key, "");
  return Fields(*value, config.where() + ": " + key).text("content");
}

void read_tokenizer_config(const Fields& config, const TokenizerJson& tokenizer,
                           TokenizerData& data) {
  if (const std::string bos = special_text(config, "bos_token"); !bos.empty() && !data.bos) {
    data.bos = tokenizer.id_of(bos);
  }
  if (const std::string eos = special_text(config, "eos_token"); !eos.empty() && !data.eos) {
    data.eos = tokenizer.id_of(eos);
  }
  if (!tokenizer.has_template()) {
    data.add_bos = config.flag_or("add_bos_token", false);
    data.add_eos = config.flag_or("add_eos_token", false);
  }
  const json* chat = config.find("chat_template");
  if (chat == nullptr || !chat->is_array()) {
    data.chat_template = config.text_or("chat_template", "");
    return;
  }
  for (const json& entry : *chat) {  // several templates, by name
    const Fields fields(entry, config.where() + ": chat_template");
    if (fields.text("name") == "default") data.chat_template = fields.text("template");
  }
}

/// "eos_token_id": 2 or [2, 7]; ids that the tokenizer lacks never come up.
void read_generation_config(const Fields& config, TokenizerData& data) {
  const json* ids = config.find("eos_token_id");
  if (ids == nullptr) return;
  const json list = ids->is_array() ? *ids : json::array({*ids});
  for (const json& id : list) {
    if (!id.is_number_unsigned()) fail("{}: 'eos_token_id' must hold token ids", config.where());
    if (id < data.tokens.size()) add_stop(data, id.get<std::uint32_t>());
  }
}

}  // namespace

TokenizerData read_tokenizer(const GgufFile& file) {
  TokenizerData data;
  data.source = file.path.string();
  const std::string model = file.text_or("tokenizer.ggml.model", "");
  if (model.empty()) return data;
  if (model != "gpt2" && model != "llama") {
    fail("{}: tokenizer.ggml.model is '{}', expected gpt2 or llama", data.source, model);
  }
  const auto* tokens = file.texts("tokenizer.ggml.tokens");
  if (tokens == nullptr) fail("{}: the metadata lack 'tokenizer.ggml.tokens'", data.source);
  if (tokens->size() > std::numeric_limits<std::uint32_t>::max()) {
    fail("{}: {} tokens are too many", data.source, tokens->size());
  }
  data.tokens = *tokens;
  read_token_types(file, data);
  data.bos = id_at(file, data, "tokenizer.ggml.bos_token_id");
  data.eos = id_at(file, data, "tokenizer.ggml.eos_token_id");
  if (model == "gpt2") {
    data.kind = Kind::byte_level_bpe;
    const auto* merges = file.texts("tokenizer.ggml.merges");
    if (merges == nullptr) fail("{}: the metadata lack 'tokenizer.ggml.merges'", data.source);
    data.merges.reserve(merges->size());
    for (const auto& merge : *merges) data.merges.push_back(parse_merge(merge, data.source));
    // Bytes without a token are dropped, as Hugging Face does without an unk_token; the file's
    // unknown_token_id is another setting and names <|endoftext|> as often as not.
    set_pre_tokenizer(data, file.text_or("tokenizer.ggml.pre", "default"));
  } else {
    data.kind = Kind::sentencepiece_bpe;
    const auto* scores = file.reals("tokenizer.ggml.scores");
    if (scores == nullptr) fail("{}: the metadata lack 'tokenizer.ggml.scores'", data.source);
    data.scores.assign(scores->begin(), scores->end());
    data.unknown = id_at(file, data, "tokenizer.ggml.unknown_token_id");
    data.add_bos = true;
    const bool prefix = file.flag_or("tokenizer.ggml.add_space_prefix", true);
    data.space_prefix = prefix ? SpacePrefix::always : SpacePrefix::none;
  }
  data.add_bos = file.flag_or("tokenizer.ggml.add_bos_token", data.add_bos);
  data.add_eos = file.flag_or("tokenizer.ggml.add_eos_token", false);
  add_usual_stops(data);
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const auto id = id_at(file, data, key)) add_stop(data, *id);
  }
  data.chat_template = file.text_or("tokenizer.chat_template", "");
  return data;
}

TokenizerData read_tokenizer(const fs::path& hf_directory) {
  TokenizerData data;
  if (const fs::path own = hf_directory / kTokenizerFile; fs::exists(own)) {
    return read_own_tokenizer(own);
  }
  const fs::path path = hf_directory / "tokenizer.json";
  data.source = path.string();
  if (!fs::exists(path)) return data;
  const json root = read_json(path, kMaxTokenizerJson);
  TokenizerJson tokenizer(root, data);
  tokenizer.read();

  const fs::path config = hf_directory / "tokenizer_config.json";
  if (fs::exists(config)) {
    const json fields = read_json(config, kMaxConfig);
    read_tokenizer_config(Fields(fields, config.string()), tokenizer, data);
  }
  const fs::path chat = hf_directory / "chat_template.jinja";
  if (fs::exists(chat)) data.chat_template = read_text(chat, kMaxConfig);
  add_usual_stops(data);
  for (const char* name : {"generation_config.json", "config.json"}) {
    const fs::path generation = hf_directory / name;
    if (!fs::exists(generation)) continue;
    const json fields = read_json(generation, kMaxConfig);
    read_generation_config(Fields(fields, generation.string()), data);
    break;  // config.json holds it in older models only
  }
  return data;
}

}  // namespace squish::io
