#include "squish/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "squish/base/error.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::model {
namespace {

/// `a` before `b` by falling logit, equal ones by rising id.
auto by_logit(std::span<const float> logits) {
  return [logits](TokenId a, TokenId b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  };
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options)
    : options_(options), random_(options.seed, "sampler") {
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    fail_usage("temperature {}: expected a number that is not negative", options.temperature);
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    fail_usage("top-p {}: expected a number above 0 and at most 1", options.top_p);
  }
}

TokenId Sampler::pick(std::span<const float> logits) {
  if (logits.empty()) fail("there are no logits to pick a token from");
  const linalg::VectorOps& ops = linalg::vector_ops();
  if (!std::isfinite(ops.largest_magnitude(logits.data(), logits.size()))) {
    fail("the model gives logits that are not finite numbers");
  }
  const float largest = ops.max(logits.data(), logits.size());
  const auto likeliest = std::find(logits.begin(), logits.end(), largest);
  if (options_.temperature == 0) return static_cast<TokenId>(likeliest - logits.begin());

  std::vector<TokenId>& ids = ids_;
  ids.resize(logits.size());
  std::iota(ids.begin(), ids.end(), TokenId{0});
  if (options_.top_k > 0 && options_.top_k < ids.size()) {
    std::nth_element(ids.begin(), ids.begin() + options_.top_k - 1, ids.end(), by_logit(logits));
    ids.resize(options_.top_k);
  }
  if (options_.top_k > 0 || options_.top_p < 1) {
    std::sort(ids.begin(), ids.end(), by_logit(logits));
  }

  // In double: (x - max) / temperature may be far below what exp() of a float can tell from 0.
  std::vector<double>& cumulative = cumulative_;
  cumulative.resize(ids.size());
  double total = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const double x = static_cast<double>(logits[ids[i]]) - static_cast<double>(*likeliest);
    cumulative[i] = total += std::exp(x / static_cast<double>(options_.temperature));
  }
  if (options_.top_p < 1) {
    // The shortest prefix that holds top_p of the probability.
    const double wanted = static_cast<double>(options_.top_p) * total;
    const auto last = std::lower_bound(cumulative.begin(), cumulative.end() - 1, wanted);
    cumulative.erase(last + 1, cumulative.end());
    total = cumulative.back();
  }
  const double drawn = random_.uniform(drawn_++) * total;
  const auto chosen = std::upper_bound(cumulative.begin(), cumulative.end() - 1, drawn);
  return ids[static_cast<std::size_t>(chosen - cumulative.begin())];
}

}  // namespace squish::model
