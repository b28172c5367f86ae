#include "squish/model/divergence.h"

#include <algorithm>
#include <cmath>

#include "squish/base/isa.h"
#include "squish/linalg/vector_ops.isa.h"
#include "squish/model/divergence.isa.h"

namespace squish::model {

SQUISH_DECLARE_TABLES(DivergenceOps, kDivergenceOps);

const DivergenceOps& divergence_ops() {
  return choose(scalar::kDivergenceOps, avx2::kDivergenceOps, avx512::kDivergenceOps);
}

Distribution distribution(std::span<const float> logits, std::span<float> scaled) {
  Distribution result;
  result.finite = divergence_ops().finite(logits.data(), logits.size());
  if (!result.finite) return result;
  const float largest = linalg::vector_ops().max(logits.data(), logits.size());
  result.likeliest =
      static_cast<std::size_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
  result.sum =
      linalg::vector_ops().exp_sum(logits.data(), logits.size(), 1, largest, scaled.data());
  result.log_sum = largest + std::log(result.sum);
  return result;
}

double divergence(std::span<const float> wanted_logits, std::span<const float> scaled,
                  const Distribution& wanted, std::span<const float> own_logits,
                  const Distribution& own) {
  const double sum =
      divergence_ops().weighted_difference(scaled.data(), wanted_logits.data(), wanted.log_sum,
                                           own_logits.data(), own.log_sum, own_logits.size());
  // Rounding alone can take it below zero, where no divergence is.
  return std::max(0.0, sum / wanted.sum);
}

}  // namespace squish::model
