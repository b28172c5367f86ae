#pragma once
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

#include "squish/compress/job.h"

/// Compressed models kept from one run of the program to the next, so that a comparison that is
/// repeated, widened or killed does not compress again what it has.
namespace squish::compress {

/// What it took to make all tensors of a checkpoint.
struct Cost {
  double seconds = 0;              ///< reading and decoding the source included
  std::size_t peak_rss_bytes = 0;  ///< of the process, with what it held before
};

struct Candidate {
  io::ModelFiles files;      ///< the checkpoint, opened
  std::optional<Cost> cost;  ///< when it was made; absent if its log is damaged
};

/// The checkpoint of this job from the folder `cache`, made there (as run_job() does, resuming what
/// was begun) if it is not. Keyed by all that its bytes depend on and by the program itself, so
/// that an edited program never meets what it made before. `options.out` and `resume` are not
/// looked at. Errors as run_job().
Candidate cached_candidate(const io::ModelFiles& files, const Plan& plan, JobOptions options,
                           const std::filesystem::path& cache, ThreadPool& pool);

/// Of the program that is running.
const std::string& program_digest();

/// Removes from `cache` what no program has used for a week.
void evict_candidates(const std::filesystem::path& cache);

}  // namespace squish::compress
