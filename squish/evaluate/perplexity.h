#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "squish/base/team.h"
#include "squish/evaluate/text.h"
#include "squish/model/transformer.h"

/// How well a model predicts text, and how far its predictions are from those of a reference.
/// Reference and candidates run window by window in one pass, the logits a few positions at a
/// time, so that none are kept. The result does not depend on the number of threads.
namespace squish::evaluate {

/// What a model makes of each scored position, in the order of the text.
struct Scores {
  std::vector<double> nll;  ///< -log p(token), nats
  // Against the reference; empty for itself.
  std::vector<double> kld;           ///< KL(p_reference || p), nats
  std::vector<std::uint8_t> agrees;  ///< 1: the same likeliest token (the lowest id of equals)
  std::size_t not_finite = 0;        ///< positions where a logit of either model is not finite
  std::string error;                 ///< why the model could not be run; the rest is empty then
};

/// Element 0 is the reference's, element i + 1 that of candidates[i]. A candidate that throws an
/// Error is left out from there on; the reference's is passed on. `done` is called after each
/// window of each model, `keep` after each window of all. `begun`, what `keep` was given before:
/// goes on after those windows. All models share one vocabulary. The ranks of `team` (null: none
/// but this process) share out the windows; the scores are the leader's to keep.
std::vector<Scores> score(const model::Transformer& reference,
                          std::span<const model::Transformer* const> candidates,
                          const Passage& passage, ThreadPool& pool,
                          const std::function<void()>& done, std::vector<Scores> begun = {},
                          const std::function<void(std::span<const Scores>)>& keep = {},
                          Team* team = nullptr);

struct Divergence {
  double delta_nll = 0, delta_nll_se = 0;  ///< se: of the paired difference
  double kld_mean = 0, kld_p99 = 0;        ///< p99: the value at rank ceil(0.99 n)
  double top1_agreement = 0;
};

/// metrics.md's fields of those names.
struct Quality {
  double ppl = 0, nll = 0, nll_se = 0;   ///< se of one position alone: NaN, null in JSON
  std::optional<Divergence> divergence;  ///< absent for the reference itself
};

/// Error if the scores hold an error or positions that are not finite. `reference` is null for the
/// reference itself.
Quality summarise(const Scores& scores, const Scores* reference);

/// The reference against itself on the first 128 scored positions of the first window, run with
/// another number of threads and another instruction set.
Divergence noise_floor(const model::Transformer& reference, const Passage& passage,
                       ThreadPool& pool);

}  // namespace squish::evaluate
