#include "squish/io/json.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "squish/base/error.h"
#include "squish/base/file.h"

namespace squish::io {

using nlohmann::json;

namespace {

/// Throws where a text is JSON, but not as strict as we want it. (The parser's own call-backs look
/// at all children of an object whenever one of them ends.)
class Strictness : public nlohmann::json_sax<json> {
 public:
  explicit Strictness(const std::filesystem::path& path) : path_(path) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) {
      fail("{}: JSON with the key '{}' twice in one object", path_.string(), name);
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool open() {
    if (keys_.size() > kMaxDepth) fail("{}: JSON nested deeper than {}", path_.string(), kMaxDepth);
    keys_.emplace_back();
    return true;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  static constexpr std::size_t kMaxDepth = 64;
  const std::filesystem::path& path_;
  std::vector<std::set<std::string>> keys_;  // seen in each object that is open
};

}  // namespace

json parse_json(std::string_view text, const std::filesystem::path& path) {
  Strictness strictness(path);
  json::sax_parse(text.begin(), text.end(), &strictness);
  try {
    return json::parse(text.begin(), text.end());
  } catch (const json::parse_error& error) {
    fail("{}: not valid JSON at byte {}", path.string(), error.byte);
  } catch (const json::out_of_range&) {
    fail("{}: JSON with a number that is out of range", path.string());
  }
}

json read_json(const std::filesystem::path& path, std::size_t limit) {
  return parse_json(read_text(path, limit), path);
}

std::string to_text(const nlohmann::json& value, const std::filesystem::path& path) {
  try {
    return value.dump(1) + "\n";
  } catch (const nlohmann::json::type_error&) {
    fail("{}: cannot be written: a name in it is not UTF-8", path.string());
  }
}

Fields::Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) fail("{}: expected a JSON object", where_);
}

const json* Fields::find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::size_t Fields::size(const char* key) const {
  const json* value = find(key);
  if (value == nullptr) fail("{}: '{}' is missing", where_, key);
  if (!value->is_number_unsigned() || *value < 1 || *value > 0x7fffffff) {
    fail("{}: '{}' must be a positive integer below 2^31", where_, key);
  }
  return value->get<std::size_t>();
}

std::size_t Fields::size_or(const char* key, std::size_t fallback) const {
  return find(key) != nullptr ? size(key) : fallback;
}

double Fields::real_or(const char* key, double fallback) const {
  const json* value = find(key);
  if (value != nullptr && !value->is_number()) fail("{}: '{}' must be a number", where_, key);
  return value != nullptr ? value->get<double>() : fallback;
}

bool Fields::flag_or(const char* key, bool fallback) const {
  const json* value = find(key);
  if (value != nullptr && !value->is_boolean()) fail("{}: '{}' must be true or false", where_, key);
  return value != nullptr ? value->get<bool>() : fallback;
}

std::string Fields::text(const char* key) const {
  const json* value = find(key);
  if (value == nullptr || !value->is_string()) fail("{}: '{}' must be a string", where_, key);
  return value->get<std::string>();
}

std::string Fields::text_or(const char* key, const char* fallback) const {
  return find(key) != nullptr ? text(key) : fallback;
}

}  // namespace squish::io
