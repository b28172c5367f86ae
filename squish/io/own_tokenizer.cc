#include "squish/io/own_tokenizer.h"

#include <algorithm>
#include <array>

#include "squish/base/error.h"
#include "squish/io/json.h"

namespace squish::io {
namespace {

using nlohmann::json;
using Kind = TokenizerData::Kind;

constexpr std::size_t kMaxBytes = std::size_t{128} << 20;
constexpr std::array<const char*, 3> kKinds = {"none", "byte_level_bpe", "sentencepiece_bpe"};
constexpr int kSpacePrefixes = 4;

json id_json(const std::optional<std::uint32_t>& id) { return id ? json(*id) : json(); }

/// Reads fields of one known type each; errors name the file and the field.
class Reader {
 public:
  Reader(const json& root, std::string where) : fields_(root, std::move(where)) {}

  const Fields& fields() const { return fields_; }

  const json& array(const char* key) const {
    const json* value = fields_.find(key);
    if (value == nullptr || !value->is_array()) wrong(key, "an array");
    return *value;
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> texts;
    for (const json& item : array(key)) texts.push_back(text(item, key));
    return texts;
  }
  std::string text(const json& value, const char* key) const {
    if (!value.is_string()) wrong(key, "strings");
    return value;
  }
  std::uint32_t number(const json& value, const char* key, std::size_t limit) const {
    if (!value.is_number_unsigned() || value >= limit) {
      wrong(key, fmt::format("numbers below {}", limit));
    }
    return value.get<std::uint32_t>();
  }
  std::optional<std::uint32_t> id(const char* key, std::size_t limit) const {
    const json* value = fields_.find(key);
    if (value == nullptr) return {};
    return number(*value, key, limit);
  }
  [[noreturn]] void wrong(const char* key, const std::string& expected) const {
    fail("{}: '{}' must hold {}", fields_.where(), key, expected);
  }

 private:
  Fields fields_;
};

}  // namespace

void write_own_tokenizer(const TokenizerData& data, const std::filesystem::path& path) {
  json special = json::array();
  for (const auto& s : data.special) {
    special.push_back({{"id", s.id},
                       {"text", s.text},
                       {"control", s.control},
                       {"strip_left", s.strip_left},
                       {"strip_right", s.strip_right}});
  }
  const json root = {{"kind", kKinds[static_cast<std::size_t>(data.kind)]},
                     {"tokens", data.tokens},
                     {"merges", data.merges},
                     {"scores", data.scores},
                     {"patterns", data.patterns},
                     {"special", special},
                     {"bos", id_json(data.bos)},
                     {"eos", id_json(data.eos)},
                     {"unknown", id_json(data.unknown)},
                     {"stop", data.stop},
                     {"add_bos", data.add_bos},
                     {"add_eos", data.add_eos},
                     {"space_prefix", static_cast<int>(data.space_prefix)},
                     {"split_at_spaces", data.split_at_spaces},
                     {"nfc", data.nfc},
                     {"ignore_merges", data.ignore_merges},
                     {"chat_template", data.chat_template}};
  try {
    write_atomically(path, root.dump() + "\n");
  } catch (const json::type_error&) {
    fail("{}: cannot be written: a token of {} is not UTF-8", path.string(), data.source);
  }
}

TokenizerData read_own_tokenizer(const std::filesystem::path& path) {
  const json root = read_json(path, kMaxBytes);
  const Reader reader(root, path.string());
  const Fields& fields = reader.fields();
  TokenizerData data;
  data.source = path.string();
  const std::string kind = fields.text("kind");
  const auto* const known = std::find(kKinds.begin(), kKinds.end(), kind);
  if (known == kKinds.end()) fail("{}: the kind '{}' is unknown", data.source, kind);
  data.kind = static_cast<Kind>(known - kKinds.begin());
  data.tokens = reader.texts("tokens");
  const std::size_t count = data.tokens.size();
  for (const json& merge : reader.array("merges")) {
    if (!merge.is_array() || merge.size() != 2) reader.wrong("merges", "pairs of strings");
    data.merges.emplace_back(reader.text(merge[0], "merges"), reader.text(merge[1], "merges"));
  }
  for (const json& score : reader.array("scores")) {
    if (!score.is_number()) reader.wrong("scores", "numbers");
    data.scores.push_back(score.get<float>());
  }
  data.patterns = reader.texts("patterns");
  for (const json& entry : reader.array("special")) {
    const Reader special(entry, data.source + ": special");
    const auto id = special.id("id", count);
    if (!id) special.wrong("id", "a token");
    data.special.push_back({*id, special.fields().text("text"),
                            special.fields().flag_or("control", false),
                            special.fields().flag_or("strip_left", false),
                            special.fields().flag_or("strip_right", false)});
  }
  data.bos = reader.id("bos", count);
  data.eos = reader.id("eos", count);
  data.unknown = reader.id("unknown", count);
  for (const json& id : reader.array("stop")) data.stop.push_back(reader.number(id, "stop", count));
  data.add_bos = fields.flag_or("add_bos", false);
  data.add_eos = fields.flag_or("add_eos", false);
  data.space_prefix = static_cast<TokenizerData::SpacePrefix>(
      reader.id("space_prefix", kSpacePrefixes).value_or(0));
  data.split_at_spaces = fields.flag_or("split_at_spaces", false);
  data.nfc = fields.flag_or("nfc", false);
  data.ignore_merges = fields.flag_or("ignore_merges", false);
  data.chat_template = fields.text_or("chat_template", "");
  return data;
}

}  // namespace squish::io
