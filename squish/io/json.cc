#include "squish/io/json.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "squish/base/error.h"
#include "squish/base/file.h"

namespace squish::io {

using nlohmann::json;

json parse_json(std::string_view text, const std::filesystem::path& path) {
  constexpr int kMaxDepth = 64;
  std::vector<std::set<std::string>> open_objects;  // the keys seen in each
  const auto check = [&](int depth, json::parse_event_t event, const json& parsed) {
    if (depth > kMaxDepth) fail("{}: JSON nested deeper than {}", path.string(), kMaxDepth);
    if (event == json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == json::parse_event_t::object_end) open_objects.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open_objects.back().insert(key).second) {
        fail("{}: JSON with the key '{}' twice in one object", path.string(), key);
      }
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::parse_error& error) {
    fail("{}: not valid JSON at byte {}", path.string(), error.byte);
  } catch (const json::out_of_range&) {
    fail("{}: JSON with a number that is out of range", path.string());
  }
}

json read_json(const std::filesystem::path& path, std::size_t limit) {
  return parse_json(read_text(path, limit), path);
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
