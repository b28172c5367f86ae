#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "squish/base/threads.h"
#include "squish/io/calibration.h"
#include "squish/io/model_files.h"
#include "squish/quant/quantizer.h"

/// The job behind `squish quantize`: a model into a checkpoint, tensor by tensor, resumable.
namespace squish::compress {

/// "GLOB=SPEC": what tensors whose name matches `glob` (as fnmatch(3) does) are compressed by.
struct TensorRule {
  std::string glob;
  std::optional<quant::Spec> spec;  ///< absent: left as they are
};
/// UsageError if it is malformed; SPEC may be `none`.
TensorRule parse_rule(const std::string& text);

struct PlannedTensor {
  std::string name;
  quant::Spec spec;
  std::size_t rows, cols;
  double nominal_bpw;  ///< by the formula of the method's paper
};

/// What becomes of each tensor of a model.
struct Plan {
  quant::Spec spec;  ///< of all linear layers that no rule names
  std::vector<PlannedTensor> compressed;
  std::vector<std::string> kept;  ///< stay as they are
};

/// All linear layers by `spec`; then the last rule that matches a matrix decides. Other matrices
/// (embeddings) are compressed where a rule says so. UsageError if a rule matches no matrix.
Plan make_plan(const io::ModelFiles& files, const quant::Spec& spec,
               const std::vector<TensorRule>& rules);

struct JobOptions {
  std::filesystem::path out;
  std::uint64_t seed = 0;
  bool resume = false;
  bool quiet = false;  ///< no progress on standard error
  /// Null: every method rounds as if all inputs counted alike.
  const io::Calibration* calibration = nullptr;
};

/// Writes the checkpoint `out`, or what is missing of it. Error if `out` exists (without `resume`)
/// or belongs to another job. A killed run, resumed, ends in the bytes of one that was not; the
/// log beside them apart.
void run_job(const io::ModelFiles& files, const Plan& plan, const JobOptions& options,
             ThreadPool& pool);

}  // namespace squish::compress
