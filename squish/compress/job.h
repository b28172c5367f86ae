#pragma once
#include <cstdint>
#include <filesystem>

#include "squish/base/team.h"
#include "squish/base/threads.h"
#include "squish/compress/plan.h"
#include "squish/compress/target.h"
#include "squish/io/calibration.h"
#include "squish/io/checkpoint.h"

/// The job behind `squish quantize`: a model into a checkpoint, a file for each tensor, resumable.
namespace squish::compress {

struct JobOptions {
  std::filesystem::path out;
  std::uint64_t seed = 0;
  bool resume = false;
  bool quiet = false;              ///< no progress on standard error
  std::string label = "quantize";  ///< of the progress
  /// Null: every method rounds as if all inputs counted alike.
  const io::Calibration* calibration = nullptr;
  /// Windows of a text, at least one: each tensor is compressed for the inputs that it has behind
  /// those compressed before it (sequential.h). Empty: all for the inputs of `calibration`, which
  /// otherwise is what a target's specs are chosen by.
  std::vector<std::vector<model::TokenId>> sequential;
  /// Null: every tensor by the plan's spec; otherwise decide() replaces those that no rule chose.
  const Target* target = nullptr;
  /// That share out the tensors; null: this process alone.
  Team* team = nullptr;
  /// Tensors of one input that are compressed at a time; 0: as many as there are threads.
  int at_once = 0;
  /// Where a target's candidates are kept for other targets; empty: in `out`, until it is whole.
  std::filesystem::path candidates;
};

/// All that the bytes of the checkpoint depend on, on all ranks at once. Error if the calibration
/// is of another model.
io::CheckpointJob describe_job(const io::ModelFiles& files, const Plan& plan,
                               const JobOptions& options, ThreadPool& pool);

/// Error if `out` is there and not to be continued; before anything that takes long.
void check_destination(const JobOptions& options);

/// Writes the checkpoint `out`, or what is missing of it; `job` is describe_job() of the rest.
/// Error if `out` exists (without `resume`) or belongs to another job. A killed run, resumed, ends
/// in the bytes of one that was not; the log beside them apart.
void run_job(const io::ModelFiles& files, const Plan& plan, const io::CheckpointJob& job,
             const JobOptions& options, ThreadPool& pool);

}  // namespace squish::compress
