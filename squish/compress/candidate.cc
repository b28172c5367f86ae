#include "squish/compress/candidate.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/compress/log.h"
#include "squish/io/checkpoint.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::hours kKept{7 * 24};
constexpr std::size_t kNameLength = 16;  // of a digest's hexadecimal

bool is_ours(const std::string& name) {
  return name.size() == kNameLength &&
         name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// From the log's lines, the last of each tensor; a killed run may have left half of one.
std::optional<Cost> read_cost(const fs::path& log, const Plan& plan) {
  std::map<std::string, Cost> by_tensor;
  std::ifstream file(log);
  for (std::string text; std::getline(file, text);) {
    const auto line = nlohmann::json::parse(text, nullptr, false);
    try {
      by_tensor[line.at("tensor")] = {line.at("seconds"), line.at("peak_rss_bytes")};
    } catch (const nlohmann::json::exception&) {
      continue;
    }
  }
  Cost total;
  for (const PlannedTensor& tensor : plan.compressed) {
    const auto found = by_tensor.find(tensor.name);
    if (found == by_tensor.end()) return {};
    total.seconds += found->second.seconds;
    total.peak_rss_bytes = std::max(total.peak_rss_bytes, found->second.peak_rss_bytes);
  }
  return total;
}

/// Has other programs that want the same entry wait for this one. Without it, where the lock cannot
/// be had (a cache that is read only), two that write at once fail in run_job().
FileLock lock_entry(const fs::path& entry) {
  std::error_code ignored;
  fs::create_directories(entry.parent_path(), ignored);
  FileLock lock(entry.string() + ".lock");
  lock.take(true);
  return lock;
}

/// Whether run_job() can take the entry: whole and undamaged, begun, or nothing at all.
bool is_usable(const fs::path& entry, const io::CheckpointJob& job) {
  try {
    for (const char* name : {io::kManifestFile, io::kJobFile}) {
      if (!fs::exists(entry / name)) continue;
      if (!io::difference(io::read_job(entry / name), job).empty()) return false;
    }
    if (fs::exists(entry / io::kManifestFile)) {
      for (const auto& [name, tensor] : io::open_model(entry).table.tensors) io::check_sums(tensor);
      return true;
    }
    return fs::exists(entry / io::kJobFile) || !fs::exists(entry) || fs::is_empty(entry);
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

const std::string& program_digest() {
  static const std::string digest = sha256(MappedFile("/proc/self/exe").bytes());
  return digest;
}

Candidate cached_candidate(const io::ModelFiles& files, const Plan& plan, JobOptions options,
                           const fs::path& cache, ThreadPool& pool) {
  const io::CheckpointJob job = describe_job(files, plan, options, pool);
  options.out =
      cache / program_digest().substr(0, kNameLength) / io::job_digest(job).substr(0, kNameLength);
  options.resume = true;
  const FileLock lock = lock_entry(options.out);
  if (!is_usable(options.out, job)) fs::remove_all(options.out);  // made again
  run_job(files, plan, job, options, pool);
  std::error_code ignored;  // an entry that looks old is only made again
  fs::last_write_time(options.out.parent_path(), fs::file_time_type::clock::now(), ignored);
  return {io::open_model(options.out), read_cost(options.out / kLogFile, plan)};
}

void evict_candidates(const fs::path& cache) {
  std::error_code error;
  const auto oldest = fs::file_time_type::clock::now() - kKept;
  for (const auto& entry : fs::directory_iterator(cache, error)) {
    if (!is_ours(entry.path().filename().string()) || !entry.is_directory(error)) continue;
    const auto used = entry.last_write_time(error);
    if (!error && used < oldest) fs::remove_all(entry.path(), error);
  }
}

}  // namespace squish::compress
