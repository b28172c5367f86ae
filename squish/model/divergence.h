#pragma once
#include <cstddef>
#include <span>

/// Rows of logits as distributions over the vocabulary.
namespace squish::model {

struct Distribution {
  bool finite = false;        ///< all logits are; the rest means nothing otherwise
  std::size_t likeliest = 0;  ///< the lowest of equals
  double sum = 0;             ///< of exp(logit - largest)
  double log_sum = 0;         ///< log of the sum of exp(logit)
};

/// `scaled`, as long, receives exp(logit - largest).
Distribution distribution(std::span<const float> logits, std::span<float> scaled);

/// KL(wanted || own) in nats, at least 0; both finite. `scaled` is what distribution() made of
/// `wanted_logits`.
double divergence(std::span<const float> wanted_logits, std::span<const float> scaled,
                  const Distribution& wanted, std::span<const float> own_logits,
                  const Distribution& own);

}  // namespace squish::model
