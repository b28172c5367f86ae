#include "squish/io/json.h"

#include <set>
#include <string>
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

}  // namespace squish::io
