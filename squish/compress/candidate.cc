#include "squish/compress/candidate.h"

#include <chrono>
#include <string>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/compress/log.h"
#include "squish/io/checkpoint.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::hours kKept{7 * 24};

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
  options.out = cache / short_digest(program_digest()) / short_digest(io::job_digest(job));
  options.resume = true;
  const FileLock lock = lock_entry(options.out);
  if (!is_usable(options.out, job)) fs::remove_all(options.out);  // made again
  run_job(files, plan, job, options, pool);
  std::error_code ignored;  // an entry that looks old is only made again
  fs::last_write_time(options.out.parent_path(), fs::file_time_type::clock::now(), ignored);
  return {io::open_model(options.out), logged_cost(options.out)};
}

void evict_candidates(const fs::path& cache) {
  std::error_code error;
  const auto oldest = fs::file_time_type::clock::now() - kKept;
  for (const auto& entry : fs::directory_iterator(cache, error)) {
    if (!is_short_digest(entry.path().filename().string()) || !entry.is_directory(error)) continue;
    const auto used = entry.last_write_time(error);
    if (!error && used < oldest) fs::remove_all(entry.path(), error);
  }
}

}  // namespace squish::compress
