#include "squish/io/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/io/json.h"
#include "squish/io/safetensors.h"
#include "squish/linalg/outer_product.h"

namespace squish::io {
namespace {

using nlohmann::json;
using Run = CalibrationSource::Run;

constexpr const char* kFormat = "squish.calibration";
constexpr const char* kLines = "text_lines";
constexpr std::string_view kSumEnd = ".sum", kProductsEnd = ".products";
constexpr std::size_t kMaxWidth = std::size_t{1} << 24;

std::span<const std::byte> bytes_of(std::span<const double> values) {
  return std::as_bytes(values);
}

json to_json(const Run& run) {
  return {{"text", run.text},
          {"text_sha256", run.text_sha256},
          {"tokens_sha256", run.tokens_sha256},
          {"protocol", run.protocol},
          {"windows", run.windows},
          {"planned", run.planned},
          {"tokens", run.tokens},
          {"made_by", run.made_by}};
}

std::uint64_t count(const Fields& fields, const char* key) {
  const json* const value = fields.find(key);
  // 2^53: what every reader of JSON holds exactly.
  if (value == nullptr || !value->is_number_unsigned() || *value > (std::uint64_t{1} << 53)) {
    fail("{}: '{}' must be an integer from 0 to 2^53", fields.where(), key);
  }
  return value->get<std::uint64_t>();
}

Run parse_run(const json& value, const std::string& where) {
  const Fields fields(value, where);
  Run run{.text = fields.text("text"),
          .text_sha256 = fields.text("text_sha256"),
          .tokens_sha256 = fields.text("tokens_sha256"),
          .protocol = fields.text("protocol"),
          .windows = count(fields, "windows"),
          .planned = count(fields, "planned"),
          .tokens = count(fields, "tokens"),
          .made_by = fields.text("made_by")};
  if (run.windows > run.planned) {
    fail("{}: {} windows of {} planned", where, run.windows, run.planned);
  }
  return run;
}

/// The doubles of a tensor of one dimension; `size` of them.
std::span<const double> doubles(const TensorTable& table, const std::string& name, std::size_t size,
                                const std::string& where) {
  const Tensor& tensor = table.at(name, DType::F64, {size});
  if (reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % alignof(double) != 0) {
    fail("{}: tensor '{}' does not begin on a multiple of {} bytes", where, name, alignof(double));
  }
  return {reinterpret_cast<const double*>(tensor.bytes.data()), size};
}

InputSums parse_input(const std::string& name, const json& value, const TensorTable& table,
                      const std::string& file) {
  const std::string where = fmt::format("{}: input '{}'", file, name);
  const Fields fields(value, where);
  InputSums sums;
  sums.tokens = count(fields, "tokens");
  sums.dropped = count(fields, "dropped");
  sums.width = fields.size("width");
  if (sums.width > kMaxWidth) fail("{}: a width of more than {}", where, kMaxWidth);
  sums.sum_sha256 = fields.text("sum_sha256");
  sums.products_sha256 = fields.text("products_sha256");
  sums.sum = doubles(table, name + std::string(kSumEnd), sums.width, file);
  sums.products =
      doubles(table, name + std::string(kProductsEnd), linalg::triangle_size(sums.width), file);
  sums.owner = std::make_shared<const MappedFile>(table.files.front());
  return sums;
}

std::vector<std::uint64_t> parse_lines(const TensorTable& table, const std::string& file) {
  const Tensor& tensor = table.at(kLines);
  std::vector<std::uint64_t> lines(tensor.bytes.size() / sizeof(std::uint64_t));
  if (tensor.type != DType::U8 || lines.size() * sizeof(std::uint64_t) != tensor.bytes.size()) {
    fail("{}: tensor '{}' must hold 8 bytes a line", file, kLines);
  }
  if (!lines.empty()) std::memcpy(lines.data(), tensor.bytes.data(), tensor.bytes.size());
  if (!std::is_sorted(lines.begin(), lines.end())) {
    fail("{}: tensor '{}' is not in ascending order", file, kLines);
  }
  return lines;
}

const json& member(const json& object, const char* key) {
  static const json kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

/// The metadata's own JSON, which says what the tensors are.
void parse_description(const json& root, const TensorTable& table, Calibration& calibration) {
  const std::string file = calibration.path.string();
  const Fields fields(root, file);
  calibration.source.model_sha256 = fields.text("model_sha256");
  const json& runs = member(root, "runs");
  if (!runs.is_array() || runs.empty()) fail("{}: 'runs' must be an array, not empty", file);
  for (const json& run : runs) calibration.source.runs.push_back(parse_run(run, file + ": a run"));
  const json& inputs = member(root, "inputs");
  if (!inputs.is_object()) fail("{}: 'inputs' must be an object", file);
  for (const auto& [name, value] : inputs.items()) {
    calibration.inputs[name] = parse_input(name, value, table, file);
  }
  calibration.text_lines = parse_lines(table, file);
  std::size_t expected = 1 + 2 * calibration.inputs.size();
  for (const auto& [name, tensor] : table.tensors) expected += name.starts_with(kPadding) ? 1 : 0;
  if (table.tensors.size() != expected) {
    fail("{}: holds tensors that its metadata do not name", file);
  }
}

/// For messages: the file, or what stands for one.
std::string name_of(const Calibration& calibration) {
  return calibration.path.empty() ? "the calibration" : calibration.path.string();
}

/// Error unless the sums are finite and, where they come from a file, what was written.
void check_values(const Calibration& calibration, const std::string& name, const InputSums& sums) {
  for (const auto& [values, expected] :
       {std::pair{sums.sum, sums.sum_sha256}, std::pair{sums.products, sums.products_sha256}}) {
    const bool finite =
        std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
    if (!finite || (!expected.empty() && sha256(bytes_of(values)) != expected)) {
      fail("{}: the sums of input '{}' are not those that were written", name_of(calibration),
           name);
    }
  }
}

void add_to(AlignedVector<double>& to, std::span<const double> from, ThreadPool& pool) {
  parallel_for(pool, to.size(), 1 << 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) to[i] += from[i];
  });
}

}  // namespace

std::string input_name(const std::string& linear) {
  static constexpr std::pair<std::string_view, std::string_view> kEnds[] = {
      {".q_proj.weight", ".qkv"},      {".k_proj.weight", ".qkv"},
      {".v_proj.weight", ".qkv"},      {".gate_proj.weight", ".gate_up"},
      {".up_proj.weight", ".gate_up"}, {".weight", ""}};
  for (const auto& [end, replacement] : kEnds) {
    if (linear.ends_with(end)) {
      return linear.substr(0, linear.size() - end.size()).append(replacement);
    }
  }
  return linear;
}

void add_sums(const std::map<std::string, InputSums>& from, const std::string& where,
              SumsOfInputs& to, ThreadPool& pool) {
  for (const auto& [name, sums] : from) {
    OwnedSums& own = to.try_emplace(name, sums.width).first->second;
    if (own.sum.size() != sums.width) {
      fail("{}: input '{}' has {} elements, expected {}", where, name, sums.width, own.sum.size());
    }
    own.tokens += sums.tokens;
    own.dropped += sums.dropped;
    add_to(own.sum, sums.sum, pool);
    add_to(own.products, sums.products, pool);
  }
}

std::map<std::string, InputSums> views_of(const std::shared_ptr<const SumsOfInputs>& sums) {
  std::map<std::string, InputSums> views;
  for (const auto& [name, own] : *sums) {
    views[name] = {own.tokens, own.dropped, own.sum.size(), own.sum, own.products, sums, {}, {}};
  }
  return views;
}

bool CalibrationSource::finished() const {
  return std::all_of(runs.begin(), runs.end(),
                     [](const Run& run) { return run.windows == run.planned; });
}

std::uint64_t CalibrationSource::tokens() const {
  std::uint64_t total = 0;
  for (const Run& run : runs) total += run.tokens;
  return total;
}

quant::InputMoments Calibration::moments(const std::string& linear) const {
  const std::string name = input_name(linear);
  const auto found = inputs.find(name);
  if (found == inputs.end()) {
    fail("{}: nothing is known of '{}', the input of {}", name_of(*this), name, linear);
  }
  const InputSums& sums = found->second;
  if (sums.tokens == 0) {
    fail("{}: no activation was finite at '{}', the input of {}", name_of(*this), name, linear);
  }
  check_values(*this, name, sums);
  const double scale = 1 / static_cast<double>(sums.tokens);
  quant::InputMoments moments{{sums.width, sums.products, scale, sums.owner},
                              {sums.sum.begin(), sums.sum.end()}};
  for (double& mean : moments.mean) mean *= scale;
  return moments;
}

void write_calibration(const std::filesystem::path& path, const Calibration& calibration,
                       ThreadPool& pool) {
  struct Digests {
    std::string sum, products;
  };
  std::vector<const InputSums*> all;
  for (const auto& [name, sums] : calibration.inputs) all.push_back(&sums);
  std::vector<Digests> digests(all.size());
  pool.run(all.size(), [&](std::size_t i) {
    digests[i] = {sha256(bytes_of(all[i]->sum)), sha256(bytes_of(all[i]->products))};
  });

  json runs = json::array(), inputs = json::object();
  for (const Run& run : calibration.source.runs) runs.push_back(to_json(run));
  std::vector<StoredTensor> tensors;
  for (const auto& [name, sums] : calibration.inputs) {
    const Digests& own = digests[tensors.size() / 2];
    inputs[name] = {{"tokens", sums.tokens},
                    {"dropped", sums.dropped},
                    {"width", sums.width},
                    {"sum_sha256", own.sum},
                    {"products_sha256", own.products}};
    tensors.push_back({name + std::string(kSumEnd), DType::F64, {sums.width}, bytes_of(sums.sum)});
    tensors.push_back({name + std::string(kProductsEnd),
                       DType::F64,
                       {sums.products.size()},
                       bytes_of(sums.products)});
  }
  const auto lines = std::as_bytes(std::span(calibration.text_lines));
  tensors.push_back({kLines, DType::U8, {lines.size()}, lines});
  const json description = {
      {"model_sha256", calibration.source.model_sha256}, {"runs", runs}, {"inputs", inputs}};
  // What is not UTF-8 can only be a path, which is for people.
  write_safetensors(
      path, tensors,
      {{"format", kFormat},
       {"format_version", std::to_string(kCalibrationVersion)},
       {"calibration", description.dump(-1, ' ', false, json::error_handler_t::replace)}});
}

Calibration read_calibration(const std::filesystem::path& path) {
  const SafetensorsFile file = read_safetensors_file(path);
  if (file.text("format") != kFormat) {
    fail("{}: not a calibration: expected the file that squish calibrate writes", path.string());
  }
  if (file.text("format_version") != std::to_string(kCalibrationVersion)) {
    fail("{}: a calibration of format version '{}', expected {}", path.string(),
         file.text("format_version"), kCalibrationVersion);
  }
  Calibration calibration;
  calibration.path = path;
  calibration.digest = sha256(file.text("calibration"));
  parse_description(parse_json(file.text("calibration"), path), file.table, calibration);
  return calibration;
}

void check_values(const Calibration& calibration) {
  for (const auto& [name, sums] : calibration.inputs) check_values(calibration, name, sums);
}

void check_calibration(const Calibration& calibration, const std::string& model_sha256) {
  if (calibration.source.model_sha256 != model_sha256) {
    fail("{}: made from a model with the digest {}, but this one has {}", name_of(calibration),
         calibration.source.model_sha256, model_sha256);
  }
  if (!calibration.source.finished()) {
    fail("{}: the calibration is unfinished; squish calibrate --resume ends it",
         name_of(calibration));
  }
}

Calibration merge_calibrations(std::vector<Calibration> parts, ThreadPool& pool) {
  if (parts.empty()) fail("there is no calibration to merge");
  const auto first_tokens = [](const Calibration& part) {
    return part.source.runs.front().tokens_sha256;
  };
  std::sort(parts.begin(), parts.end(), [&](const Calibration& a, const Calibration& b) {
    return first_tokens(a) < first_tokens(b);
  });
  Calibration merged;
  merged.source.model_sha256 = parts.front().source.model_sha256;
  const auto owned = std::make_shared<SumsOfInputs>();
  for (const Calibration& part : parts) {
    check_calibration(part, merged.source.model_sha256);
    for (const Run& run : part.source.runs) merged.source.runs.push_back(run);
    check_values(part);
    add_sums(part.inputs, name_of(part), *owned, pool);
    merged.text_lines.insert(merged.text_lines.end(), part.text_lines.begin(),
                             part.text_lines.end());
  }
  merged.inputs = views_of(owned);
  auto& runs = merged.source.runs;
  const auto digest = [](const Run& run) { return run.tokens_sha256; };
  std::ranges::sort(runs, {}, digest);
  if (const auto twice = std::ranges::adjacent_find(runs, {}, digest); twice != runs.end()) {
    fail("two of the calibrations to merge are of the same text, '{}'", twice->text);
  }
  std::ranges::sort(merged.text_lines);
  const auto [first, last] = std::ranges::unique(merged.text_lines);
  merged.text_lines.erase(first, last);
  return merged;
}

}  // namespace squish::io
