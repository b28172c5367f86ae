#include "squish/report/page.h"

#include <string_view>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/compress/job.h"
#include "squish/compress/log.h"
#include "squish/io/json.h"
#include "squish/report/markdown.h"
#include "squish/report/page_assets.h"

namespace squish::report {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxResults = std::size_t{64} << 20;

using io::member;
using io::text_of;

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

/// Older rows of eval name their models in its configuration alone.
void name_models(Json& rows, const Json& config) {
  const Json& models = member(config, "models");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].contains("model") || !models.is_array()) continue;
    if (i < models.size() && models[i].is_string()) rows[i]["model"] = models[i];
  }
}

/// Seeds that a script would round become texts.
void keep_seeds(Json& rows) {
  constexpr std::uint64_t kExact = std::uint64_t{1} << 53;
  for (Json& row : rows) {
    const Json& seed = member(row, "seed");
    if (seed.is_number_unsigned() && seed > kExact) row["seed"] = seed.dump();
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

void add_checkpoint(Page& page, const fs::path& directory) {
  Json tensors = Json::array();
  for (const auto& [name, line] : compress::tensor_log(directory)) tensors.push_back(Json(line));
  if (tensors.empty()) {
    fail("{}: nothing is known of how its tensors were compressed, expected a {}",
         directory.string(), compress::kLogFile);
  }
  const fs::path whole = fs::weakly_canonical(directory);  // "model/" has no name
  page.checkpoints.push_back({{"name", whole.filename().string()}, {"tensors", tensors}});
}

}  // namespace

void add_results(Page& page, const Json& results, const std::string& name) {
  const std::string schema = text_of(results, "schema");
  const bool eval = schema == "squish.eval/1";
  if (!eval && schema != "squish.bench/1") {
    fail(
        "{}: expected results of squish bench or squish eval (schema squish.bench/1 or "
        "squish.eval/1), found {}",
        name, schema.empty() ? "no schema" : "schema " + schema);
  }
  Json file = {{"name", name}, {"schema", schema}, {"created", text_of(results, "created")}};
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
  for (const char* const key : {"stage1", "stage2"}) {
    if (file.contains(key)) keep_seeds(file[key]);
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
