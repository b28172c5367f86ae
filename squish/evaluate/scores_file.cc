#include "squish/evaluate/scores_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/compress/calibration.h"
#include "squish/compress/candidate.h"
#include "squish/io/digest.h"
#include "squish/io/safetensors.h"
#include "squish/kernels/panel.h"

namespace squish::evaluate {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kFormat = "squish.scores/1";

template <class Value>
void append(std::size_t model, const char* what, io::DType type, const std::vector<Value>& values,
            std::vector<io::StoredTensor>& tensors) {
  if (values.empty()) return;
  tensors.push_back(
      {std::to_string(model) + what, type, {values.size()}, std::as_bytes(std::span(values))});
}

template <class Value>
std::vector<Value> take(std::size_t model, const char* what, io::DType type, std::size_t count,
                        const io::TensorTable& table, const fs::path& path) {
  std::vector<Value> values(count);
  if (count == 0) return values;
  const std::string name = std::to_string(model) + what;
  const io::Tensor& tensor = table.at(name, type, {count});
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  const bool finite = std::all_of(values.begin(), values.end(),
                                  [](Value v) { return std::isfinite(static_cast<double>(v)); });
  if (!finite) fail("{}: tensor '{}' is not finite", path.string(), name);
  return values;
}

}  // namespace

std::string pass_digest(std::span<const io::ModelFiles* const> models, const PassOptions& options,
                        const Passage& passage, Team& team, ThreadPool& pool) {
  json digests = json::array();
  for (const io::ModelFiles* files : models)
    digests.push_back(io::model_digest(*files, pool, &team));
  const json pass = {{"models", digests},
                     {"with_reference", options.with_reference},
                     {"label", passage.label},
                     {"tokens", compress::tokens_sha256(passage.windows)},
                     {"first_scored", passage.first_scored},
                     {"few", options.few},
                     {"kv", options.kv},
                     {"panels", options.few == 0 ? "" : kernels::to_string(kernels::panel_path())},
                     {"made_by", compress::made_by()},
                     {"program", compress::program_digest()}};
  return sha256(pass.dump());
}

std::vector<Scores> ScoresFile::read(std::size_t models, const Passage& passage) {
  std::vector<Scores> all(models);
  std::error_code ignored;
  if (!fs::exists(path_, ignored)) return all;
  const io::SafetensorsFile file = io::read_safetensors_file(path_);
  if (file.text("format") != kFormat) {
    fail("{}: expected the scores of a squish eval that was stopped", path_.string());
  }
  if (file.text("pass") != pass()) {
    fail("{}: of other models, another text or another program, and cannot be resumed",
         path_.string());
  }
  const json entries = json::parse(file.text("models"), nullptr, false);
  try {
    if (entries.size() != models) fail("{}: expected {} models", path_.string(), models);
    for (std::size_t i = 0; i < models; ++i) {
      const json& entry = entries.at(i);
      Scores& own = all[i];
      own.not_finite = entry.at("not_finite");
      const std::size_t count = entry.at("positions"), compared = entry.at("compared");
      if (count > passage.scored() || count % passage.scored_per_window() != 0 ||
          (compared != 0 && compared != count)) {
        fail("{}: expected whole windows of {} positions, {} at most", path_.string(),
             passage.scored_per_window(), passage.windows.size());
      }
      own.nll = take<double>(i, ".nll", io::DType::F64, count, file.table, path_);
      own.kld = take<double>(i, ".kld", io::DType::F64, compared, file.table, path_);
      own.agrees = take<std::uint8_t>(i, ".agrees", io::DType::U8, compared, file.table, path_);
    }
  } catch (const json::exception&) {
    fail("{}: its description is damaged", path_.string());
  }
  return all;
}

void ScoresFile::keep(std::span<const Scores> scores) {
  const auto now = std::chrono::steady_clock::now();
  const auto failed = [](const Scores& own) { return !own.error.empty(); };
  if (now - saved_at_ < save_every_ && !interrupted()) return;
  if (!std::ranges::any_of(scores, failed)) write(scores);
  saved_at_ = now;
  stop_if_interrupted();
}

void ScoresFile::write(std::span<const Scores> scores) {
  std::vector<io::StoredTensor> tensors;
  json entries = json::array();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Scores& own = scores[i];
    append(i, ".nll", io::DType::F64, own.nll, tensors);
    append(i, ".kld", io::DType::F64, own.kld, tensors);
    append(i, ".agrees", io::DType::U8, own.agrees, tensors);
    entries.push_back({{"positions", own.nll.size()},
                       {"compared", own.kld.size()},
                       {"not_finite", own.not_finite}});
  }
  io::write_safetensors(path_, tensors,
                        {{"format", kFormat}, {"pass", pass()}, {"models", entries.dump()}},
                        io::Padding::none);
}

const std::string& ScoresFile::pass() {
  if (pass_.empty()) pass_ = make_pass_();
  return pass_;
}

void ScoresFile::remove() const {
  std::error_code ignored;  // what is left behind is whole and harmless
  fs::remove(path_, ignored);
}

}  // namespace squish::evaluate
