#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "squish/base/threads.h"
#include "squish/io/model_files.h"
#include "squish/quant/quantizer.h"

/// Which tensors of a model are compressed, and by what.
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
  double nominal_bpw;    ///< by the formula of the method's paper
  bool by_rule = false;  ///< a rule chose the spec
  bool linear = false;   ///< a linear layer of a block, whose input can be calibrated
  /// The stored name of the codebooks that it shares with others (quant/shared_codebooks.h); empty:
  /// it has all to itself.
  std::string shared = {};
};

/// What becomes of each tensor of a model.
struct Plan {
  quant::Spec spec;  ///< of all linear layers that no rule names
  std::vector<PlannedTensor> compressed;
  std::vector<std::string> kept;  ///< stay as they are
};

/// All linear layers by `spec` (of an unknown architecture: all matrices that neither look up nor
/// are looked up by tokens or positions, going by their names); then the last rule that matches a
/// matrix decides. Other matrices (embeddings) are compressed where a rule says so. UsageError if a
/// rule matches no matrix.
Plan make_plan(const io::ModelFiles& files, const quant::Spec& spec,
               const std::vector<TensorRule>& rules);

/// Whether they are given the same vectors: their moments are one, and they are compressed
/// together.
bool share_input(const PlannedTensor& a, const PlannedTensor& b);

/// Tensors [begin, end) of a plan have one input.
struct TensorRun {
  std::size_t begin, end;
};
/// In the order of the tensors, or, to be shared out, `largest_first`: those that take longest
/// (roughly), so that no rank is still at work when all others are done (bench/scale/simulate.py).
std::vector<TensorRun> runs_of_one_input(const std::vector<PlannedTensor>& tensors,
                                         bool largest_first);

/// Anonymous memory that compressing holds at its peak; `at_once`: of the tensors of one input, so
/// many are compressed at a time. `calibrated`: with the moments of the inputs. `candidates`: what
/// each tensor that no rule names is compressed by, one after the other; empty: its own spec.
std::size_t peak_memory(const Plan& plan, bool calibrated, std::size_t at_once,
                        std::span<const quant::Spec> candidates = {});

/// What a job is going to take besides, from the plan alone.
struct Estimate {
  std::size_t disk_bytes = 0;  ///< of the checkpoint, by the methods' formulas
  double seconds = 0;          ///< by a trial of each spec on a few rows; calibration apart
};
/// Runs each spec on some rows of made-up weights of the widths that it is for: some seconds.
Estimate estimate(const io::ModelFiles& files, const Plan& plan, bool calibrated, ThreadPool& pool);

/// The embedding by uncalibrated int`embed_bits` and the head by int`head_bits`, in groups of 64
/// (or the largest power of two from 16 on that divides a row) with f16 scales and zero points,
/// range by least squares; 0: as the source has it. UsageError for a head of its own bits that is
/// the embedding.
std::vector<TensorRule> table_rules(const io::ModelConfig& config, int embed_bits, int head_bits);

}  // namespace squish::compress
