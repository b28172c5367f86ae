#include "squish/report/page.h"

#include <map>
#include <string_view>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/compress/job.h"
#include "squish/io/checkpoint.h"
#include "squish/io/json.h"
#include "squish/report/markdown.h"
#include "squish/report/page_assets.h"

namespace squish::report {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxResults = std::size_t{64} << 20;
constexpr std::size_t kMaxLog = std::size_t{256} << 20;

std::string text_or(const Json& object, const char* key, const char* otherwise) {
  const auto at = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && at != object.end() && at->is_string() ? at->get<std::string>()
                                                                     : otherwise;
}

const Json& member(const Json& object, const char* key) {
  static const Json none;
  if (!object.is_object()) return none;
  const auto at = object.find(key);
  return at == object.end() ? none : *at;
}

/// The list of rows under `key`; Error unless each says what it is of and how it ended.
Json rows_of(const Json& results, const char* key, const std::string& name) {
  const Json& rows = member(results, key);
  if (!rows.is_array()) fail("{}: expected a list \"{}\"", name, key);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const char* const field : {"method", "spec", "status"}) {
      if (member(rows[i], field).is_string()) continue;
      fail("{}: row {} of \"{}\": expected a text \"{}\"", name, i, key, field);
    }
  }
  return rows;
}

/// eval's rows name their models in its configuration.
void name_models(Json& rows, const Json& config) {
  const Json& models = member(config, "models");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (models.is_array() && i < models.size() && models[i].is_string()) {
      rows[i]["model"] = models[i];
    }
  }
}

/// JSON that may stand inside <script>.
std::string embedded(const Json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', true, Json::error_handler_t::replace)) {
    if (c == '<') {
      text += "\\u003c";
    } else {
      text += c;
    }
  }
  return text;
}

/// `text` with `mark` replaced by `by`, once.
void put(std::string& text, std::string_view mark, std::string_view by) {
  text.replace(text.find(mark), mark.size(), by);
}

/// Null for what a job that was killed left half written; what went on wrote it again.
Json log_line(std::string_view text, const fs::path& path) {
  try {
    return Json(io::parse_json(text, path));
  } catch (const Error&) {
    return {};
  }
}

void add_checkpoint(Page& page, const fs::path& directory) {
  const io::CheckpointJob job = io::read_job(directory / io::kManifestFile);
  const std::map<std::string, std::string> chosen(job.tensors.begin(), job.tensors.end());
  const fs::path path = directory / compress::kLogFile;
  const std::string log = read_text(path, kMaxLog);
  std::map<std::string, Json> lines;  // a tensor that was compressed again: its last
  for (std::size_t at = 0; at < log.size();) {
    const std::size_t end = std::min(log.find('\n', at), log.size());
    const Json line = log_line(std::string_view(log).substr(at, end - at), path);
    at = end + 1;
    const auto spec = chosen.find(text_or(line, "tensor", ""));
    if (spec == chosen.end() || spec->second != text_or(line, "spec", "")) continue;
    lines[spec->first] = line;
  }
  Json tensors = Json::array();
  for (const auto& [name, line] : lines) tensors.push_back(line);
  page.checkpoints.push_back({{"name", directory.filename().string()}, {"tensors", tensors}});
}

}  // namespace

void add_results(Page& page, const Json& results, const std::string& name) {
  const std::string schema = text_or(results, "schema", "");
  const bool eval = schema == "squish.eval/1";
  if (!eval && schema != "squish.bench/1") {
    fail(
        "{}: expected results of squish bench or squish eval (schema squish.bench/1 or "
        "squish.eval/1), found {}",
        name, schema.empty() ? "no schema" : "schema " + schema);
  }
  Json file = {{"name", name}, {"schema", schema}, {"created", text_or(results, "created", "")}};
  for (const char* const key :
       {"host", "squish", "config", "noise_floor", "calibration", "model", "reference"}) {
    if (const Json& value = member(results, key); value.is_object()) file[key] = value;
  }
  const Json& source = member(results, eval ? "reference" : "model");
  file["source_quantized"] = member(source, "source_quantized") == true;
  if (eval) {
    file["stage2"] = rows_of(results, "rows", name);
    name_models(file["stage2"], member(results, "config"));
  } else {
    file["stage1"] = rows_of(results, "stage1", name);
    file["stage2"] = rows_of(results, "stage2", name);
  }
  page.files.push_back(std::move(file));
}

void add_source(Page& page, const fs::path& path) {
  if (fs::is_directory(path)) return add_checkpoint(page, path);
  add_results(page, Json(io::read_json(path, kMaxResults)), path.filename().string());
}

std::string to_html(const Page& page) {
  const Json data = {{"files", page.files},
                     {"checkpoints", page.checkpoints},
                     {"quantised_source", kQuantisedSource}};
  std::string text(kPageHtml);
  put(text, "[[css]]", kPageCss);
  put(text, "[[js]]", kPageJs);
  put(text, "[[data]]", embedded(data));
  return text;
}

}  // namespace squish::report
