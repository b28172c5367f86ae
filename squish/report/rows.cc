#include "squish/report/rows.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace squish::report {
namespace {

/// Values that hold no others, under the names of all that they are in.
void flatten(const Json& value, const std::string& name, Json& into) {
  if (!value.is_object()) {
    into[name] = value;
    return;
  }
  for (const auto& [key, member] : value.items()) {
    flatten(member, name.empty() ? key : name + "." + key, into);
  }
}

std::vector<Json> rows_of(const Json& results) {
  std::vector<Json> rows;
  for (const auto& [key, stage] : {std::pair{"stage1", 1}, {"stage2", 2}, {"rows", 0}}) {
    if (!results.contains(key)) continue;
    for (const Json& row : results[key]) {
      Json& made = rows.emplace_back(Json::object());
      if (stage > 0) made["stage"] = stage;
      made.update(row);
    }
  }
  return rows;
}

std::string cell(const Json& value) {
  if (value.is_null()) return "";
  std::string text = value.is_string() ? value.get<std::string>()
                                       : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.find_first_of(",\"\n\r") == text.npos) return text;
  for (std::size_t at = 0; (at = text.find('"', at)) != text.npos; at += 2) text.insert(at, 1, '"');
  return '"' + text + '"';
}

}  // namespace

std::string to_csv(const Json& results) {
  std::vector<Json> rows;
  std::vector<std::string> columns;
  for (const Json& row : rows_of(results)) {
    flatten(row, "", rows.emplace_back(Json::object()));
    for (const auto& [key, value] : rows.back().items()) {
      if (std::ranges::find(columns, key) == columns.end()) columns.push_back(key);
    }
  }
  std::string text;
  const auto add_line = [&](const auto& value_of) {
    for (const std::string& column : columns) {
      text += (&column == columns.data() ? "" : ",") + value_of(column);
    }
    text += '\n';
  };
  add_line([](const std::string& column) { return cell(column); });
  for (const Json& row : rows) {
    add_line([&](const std::string& column) {
      return row.contains(column) ? cell(row[column]) : std::string();
    });
  }
  return text;
}

std::string to_jsonl(const Json& results) {
  std::string text;
  for (const Json& row : rows_of(results)) {
    text += row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return text;
}

}  // namespace squish::report
