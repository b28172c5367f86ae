#include "squish/compress/log.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/compress/job.h"
#include "squish/compress/target.h"
#include "squish/io/checkpoint.h"
#include "squish/io/json.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;
using io::member;
using io::text_of;
using nlohmann::json;

constexpr std::size_t kMaxFile = std::size_t{256} << 20;

fs::path log_path(const fs::path& checkpoint, int rank) {
  return checkpoint / (rank == 0 ? kLogFile : fmt::format("squish.log.{}.jsonl", rank));
}

/// Null for what a job that was killed left half written; what went on wrote it again.
json parse_line(std::string_view text, const fs::path& path) {
  try {
    return io::parse_json(text, path);
  } catch (const Error&) {
    return {};
  }
}

/// What the plan says of tensors that `log` lacks.
void add_planned(const fs::path& path, const std::map<std::string, std::string>& specs,
                 std::map<std::string, json>& log) {
  if (!fs::exists(path)) return;
  const json plan = io::read_json(path, kMaxFile);
  const json& tensors = member(plan, "tensors");
  for (const json& tensor : tensors.is_array() ? tensors : json::array()) {
    const std::string name = text_of(tensor, "name");
    const json &candidates = member(tensor, "candidates"), &choice = member(tensor, "choice"),
               &weights = member(tensor, "weights");
    if (log.contains(name) || !specs.contains(name) || !candidates.is_array() ||
        !choice.is_number_unsigned() || choice >= candidates.size() ||
        !weights.is_number_unsigned() || weights == 0) {
      continue;
    }
    const json& chosen = candidates[choice.get<std::size_t>()];
    const json &bytes = member(chosen, "bytes"), &loss = member(chosen, "loss");
    if (!bytes.is_number() || !loss.is_number()) continue;
    log[name] = {{"tensor", name},
                 {"spec", specs.at(name)},
                 {"bpw", 8 * bytes.get<double>() / weights.get<double>()},
                 {"proxy_snr_db", -10 * std::log10(loss.get<double>())}};
  }
}

std::map<std::string, json> lines_of(const io::CheckpointJob& job, const fs::path& checkpoint) {
  const std::map<std::string, std::string> specs(job.tensors.begin(), job.tensors.end());
  std::map<std::string, json> found;
  const fs::path path = checkpoint / kLogFile;
  const std::string log = fs::exists(path) ? read_text(path, kMaxFile) : "";
  for (std::size_t at = 0; at < log.size();) {
    const std::size_t end = std::min(log.find('\n', at), log.size());
    json line = parse_line(std::string_view(log).substr(at, end - at), path);
    at = end + 1;
    const auto spec = specs.find(text_of(line, "tensor"));
    if (spec == specs.end() || spec->second != text_of(line, "spec")) continue;
    found[spec->first] = std::move(line);
  }
  add_planned(checkpoint / kPlanFile, specs, found);
  return found;
}

}  // namespace

Log::Log(const fs::path& checkpoint, int rank)
    : path_(log_path(checkpoint, rank)), file_(path_, O_RDWR | O_CREAT | O_APPEND, 0644) {
  if (file_.get() < 0) fail("{}: cannot be written: {}", path_.string(), errno_text());
  char last = '\n';
  const off_t size = ::lseek(file_.get(), 0, SEEK_END);
  if (size > 0 && ::pread(file_.get(), &last, 1, size - 1) == 1 && last != '\n') write("\n");
}

void Log::write(const std::string& line) {
  if (!write_all(file_.get(), line))
    fail("{}: cannot be written: {}", path_.string(), errno_text());
}

void join_logs(const fs::path& checkpoint) {
  std::set<fs::path> others;
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("squish.log.") && name != kLogFile) others.insert(entry.path());
  }
  if (others.empty()) return;
  Log log(checkpoint, 0);
  for (const fs::path& other : others) {
    log.write(read_text(other, kMaxFile));
    fs::remove(other);
  }
}

std::map<std::string, json> tensor_log(const fs::path& checkpoint) {
  return lines_of(io::read_job(checkpoint / io::kManifestFile), checkpoint);
}

std::optional<Cost> logged_cost(const fs::path& checkpoint) {
  const io::CheckpointJob job = io::read_job(checkpoint / io::kManifestFile);
  const auto log = lines_of(job, checkpoint);
  Cost cost{};
  for (const auto& [name, spec] : job.tensors) {
    const auto line = log.find(name);
    if (line == log.end()) return {};
    const json &seconds = member(line->second, "seconds"),
               &peak = member(line->second, "peak_rss_bytes");
    if (!seconds.is_number() || !peak.is_number_unsigned()) return {};
    cost.seconds += seconds.get<double>();
    cost.peak_rss_bytes = std::max(cost.peak_rss_bytes, peak.get<std::size_t>());
  }
  return cost;
}

}  // namespace squish::compress
