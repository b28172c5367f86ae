#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

/// JSON of unknown origin: model files and, in squish/report, results.
namespace squish::io {

/// Parses `text`; `path` is named in errors. Stricter than the standard where leniency would hide
/// a broken or hostile file: repeated keys and nesting deeper than 64 are Errors.
nlohmann::json parse_json(std::string_view text, const std::filesystem::path& path);

/// The whole file, which may have at most `limit` bytes.
nlohmann::json read_json(const std::filesystem::path& path, std::size_t limit);

/// As squish's own files have it; Error where a text in it is not UTF-8.
std::string to_text(const nlohmann::json& value, const std::filesystem::path& path);

/// Of JSON that may be of any shape: the member, or null where there is no object or none of that
/// name; the same as a text, empty where it is none.
template <class Json>
const Json& member(const Json& object, const char* key) {
  static const Json none;
  if (!object.is_object()) return none;
  const auto at = object.find(key);
  return at == object.end() ? none : *at;
}
template <class Json>
std::string text_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.template get<std::string>() : std::string();
}

/// Typed look-ups in one JSON object; null counts as missing, as in transformers. Errors start with
/// `where`, which names the file and the place in it.
class Fields {
 public:
  /// `object` must outlive this; Error if it is no object.
  Fields(const nlohmann::json& object, std::string where);

  const nlohmann::json* find(const char* key) const;  ///< nullptr if missing
  /// 1 to 2^31 - 1, so that products of two such numbers cannot overflow.
  std::size_t size(const char* key) const;
  std::size_t size_or(const char* key, std::size_t fallback) const;
  double real_or(const char* key, double fallback) const;
  bool flag_or(const char* key, bool fallback) const;
  std::string text(const char* key) const;
  std::string text_or(const char* key, const char* fallback) const;
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace squish::io
