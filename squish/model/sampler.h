#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "squish/base/random.h"
#include "squish/model/tokenizer.h"

namespace squish::model {

struct SamplerOptions {
  float temperature = 0;  ///< 0: greedy
  std::size_t top_k = 0;  ///< 0: all
  float top_p = 1;        ///< nucleus (Holtzman et al., 2020)
  std::uint64_t seed = 0;
};

/// Picks the next token: temperature, then top-k, then top-p. Greedy ties go to the lowest id.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);  ///< UsageError for what is out of range
  /// Error if a logit is not a finite number.
  TokenId pick(std::span<const float> logits);

 private:
  SamplerOptions options_;
  CounterRng random_;
  std::uint64_t drawn_ = 0;
  // Kept from token to token.
  std::vector<TokenId> ids_;
  std::vector<double> cumulative_;
};

}  // namespace squish::model
