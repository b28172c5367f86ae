#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "squish/base/team.h"
#include "squish/base/threads.h"
#include "squish/compress/plan.h"
#include "squish/io/model_files.h"
#include "squish/model/tokenizer.h"

/// Chooses a spec for each tensor, so that the checkpoint meets a size and its predictions stay as
/// near to the model's as can be.
namespace squish::compress {

struct Target {
  /// Stored bits per weight over all compressed linear layers of the blocks; 0: `bytes` instead, of
  /// all tensors of the checkpoint (headers and paddings apart).
  double bpw = 0;
  std::uint64_t bytes = 0;
  std::vector<quant::Spec> candidates;  ///< at least one
  /// Of a text that did not calibrate: the model runs over them once for each tensor.
  std::vector<std::vector<model::TokenId>> windows;
};

/// "2.5 bits a weight", "50000000 bytes".
std::string describe(const Target& target);

/// The candidates' specs in full, separated by ';'.
std::string all_specs(const Target& target);

/// A tensor as a candidate has it.
struct Stored {
  std::uint64_t bytes = 0;
  double loss = 0;  ///< the share of the output's energy that is lost: quant::proxy_loss()
};

/// A candidate to be made, and where.
struct Wanted {
  PlannedTensor tensor;
  std::filesystem::path path;
};

/// Called before and after each tensor.
using Advance = std::function<void(const PlannedTensor& tensor, bool is_done)>;
struct Candidates {
  std::function<std::vector<Stored>(const std::vector<Wanted>&, const Advance&)> store;
  std::function<void()> release;  ///< called when all are there, before the model is run
};

/// In the checkpoint's directory while the job is unfinished, and the plan that comes of it
/// (docs/format.md).
inline constexpr const char* kCandidates = "candidates";
inline constexpr const char* kPlanFile = "squish.plan.json";

struct Decision {
  Plan plan;
  std::vector<std::filesystem::path> files;  ///< of plan.compressed, not yet in their places
};

/// The plan with the specs of all tensors that no rule names chosen from the candidates. First each
/// is compressed by every candidate: `store(wanted, advance)`, given all of one input at a time,
/// writes their files, into the candidates' folders, or finds them there, and says
/// what they take and lose. Then the model is run with one tensor at a time
/// replaced by its candidate nearest to the target; the divergence per lost energy is the tensor's
/// sensitivity, and the divergence of any other candidate is taken as proportional to its loss (the
/// linearity theorem of HIGGS, arXiv 2411.17525; that the sum over tensors predicts the model's,
/// too). Then allocate(). What is done is found again in `out`, and the plan if there is one. Error
/// if the smallest candidates exceed the target.
/// The ranks of `team` share out the candidates; the leader does the rest.
Decision decide(const io::ModelFiles& files, const Plan& plan, const Target& target,
                const std::filesystem::path& out, const std::vector<std::filesystem::path>& folders,
                const Candidates& candidates, bool quiet, Team& team, ThreadPool& pool);

/// Error if the smallest candidates exceed the target by the methods' formulas, which are never
/// above what is stored.
void check_target(const io::ModelFiles& files, const Plan& plan, const Target& target,
                  ThreadPool& pool);

}  // namespace squish::compress
