#include "squish/model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "squish/base/error.h"

namespace squish::model {
namespace {

std::vector<float> random_logits(std::size_t n, std::uint64_t seed) {
  const CounterRng rng(seed, "sampler_test");
  std::vector<float> logits(n);
  for (std::size_t i = 0; i < n; ++i) logits[i] = static_cast<float>(3 * rng.normal(i));
  return logits;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (const float x : logits) sum += p.emplace_back(std::exp(x / temperature));
  for (double& x : p) x /= sum;
  return p;
}

constexpr int kDraws = 20000;

/// Each count within 5 standard deviations of its expectation.
void expect_frequencies(Sampler sampler, const std::vector<float>& logits,
                        const std::vector<double>& probability) {
  std::vector<int> count(logits.size());
  for (int i = 0; i < kDraws; ++i) ++count[sampler.pick(logits)];
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double p = probability[i], sigma = std::sqrt(kDraws * p * (1 - p));
    EXPECT_NEAR(count[i], kDraws * p, 5 * sigma) << i;
  }
}

TEST(Sampler, GreedyTakesTheLikeliestAndOnTiesTheLowestId) {
  Sampler sampler(SamplerOptions{});
  EXPECT_EQ(sampler.pick(std::vector<float>{-1, 4, 2, 4, 3}), 1u);
  EXPECT_EQ(sampler.pick(std::vector<float>{-7}), 0u);
  EXPECT_EQ(sampler.pick(std::vector<float>{0, 0, 0}), 0u);
}

TEST(Sampler, TopKOfOneIsGreedy) {
  Sampler greedy(SamplerOptions{});
  Sampler top1({.temperature = 5, .top_k = 1, .top_p = 1, .seed = 3});
  Sampler top_p({.temperature = 5, .top_k = 0, .top_p = 1e-6f, .seed = 3});
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    std::vector<float> logits = random_logits(50, seed);
    if (seed % 2 == 0) logits[7] = logits[31] = 20;
    EXPECT_EQ(top1.pick(logits), greedy.pick(logits));
    EXPECT_EQ(top_p.pick(logits), greedy.pick(logits));
  }
}

TEST(Sampler, FrequenciesMatchTheSoftmax) {
  const std::vector<float> logits = random_logits(12, 1);
  for (const float temperature : {0.5f, 1.0f, 3.0f}) {
    expect_frequencies(Sampler({.temperature = temperature, .top_k = 0, .top_p = 1, .seed = 9}),
                       logits, softmax(logits, temperature));
  }
}

TEST(Sampler, TopKKeepsTheKLikeliest) {
  const std::vector<float> logits = {1, 5, 4, 0, 4.5f, 4};  // the tie at 4 goes to id 2
  const std::vector<float> kept = {-99, 5, 4, -99, 4.5f, -99};
  expect_frequencies(Sampler({.temperature = 1, .top_k = 3, .top_p = 1, .seed = 1}), logits,
                     softmax(kept, 1));
}

TEST(Sampler, TopPKeepsTheShortestPrefixThatHoldsP) {
  // Probabilities 0.1, 0.4, 0.2, 0.3.
  const std::vector<float> logits = {std::log(1.0f), std::log(4.0f), std::log(2.0f),
                                     std::log(3.0f)};
  const struct {
    float top_p;
    std::vector<double> probability;
  } cases[] = {{0.39f, {0, 1, 0, 0}},
               {0.41f, {0, 4.0 / 7, 0, 3.0 / 7}},
               {0.69f, {0, 4.0 / 7, 0, 3.0 / 7}},
               {0.71f, {0, 4.0 / 9, 2.0 / 9, 3.0 / 9}},
               {0.95f, {0.1, 0.4, 0.2, 0.3}},
               {1.0f, {0.1, 0.4, 0.2, 0.3}}};
  for (const auto& [top_p, probability] : cases) {
    expect_frequencies(Sampler({.temperature = 1, .top_k = 0, .top_p = top_p, .seed = 5}), logits,
                       probability);
  }
}

TEST(Sampler, TopPCountsWithinTopK) {
  // Of the two kept the first has 4/7 > 0.5 of the probability.
  const std::vector<float> logits = {std::log(1.0f), std::log(4.0f), std::log(2.0f),
                                     std::log(3.0f)};
  expect_frequencies(Sampler({.temperature = 1, .top_k = 2, .top_p = 0.5f, .seed = 5}), logits,
                     {0, 1, 0, 0});
}

TEST(Sampler, SeedDecidesTheSequence) {
  const std::vector<float> logits = random_logits(100, 1);
  const auto sequence = [&](std::uint64_t seed) {
    Sampler sampler({.temperature = 1, .top_k = 40, .top_p = 0.95f, .seed = seed});
    std::vector<TokenId> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.pick(logits));
    return ids;
  };
  EXPECT_EQ(sequence(1), sequence(1));
  EXPECT_NE(sequence(1), sequence(2));
}

TEST(Sampler, ExtremeLogitsAndTemperatures) {
  const std::vector<float> wide = {-3e38f, 3e38f, 0};
  EXPECT_EQ(Sampler({.temperature = 1e-30f}).pick(wide), 1u);
  std::set<TokenId> seen;
  Sampler hot({.temperature = 1e30f});
  for (int i = 0; i < 200; ++i) seen.insert(hot.pick(std::vector<float>{-50, 0, 50}));
  EXPECT_EQ(seen.size(), 3u);
}

TEST(Sampler, RejectsWhatMakesNoSense) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float temperature : {-1.0f, nan, infinity}) {
    EXPECT_THROW(Sampler({.temperature = temperature}), UsageError) << temperature;
  }
  for (const float top_p : {0.0f, -0.5f, 1.5f, nan}) {
    EXPECT_THROW(Sampler({.temperature = 1, .top_k = 0, .top_p = top_p}), UsageError) << top_p;
  }
  Sampler sampler(SamplerOptions{});
  EXPECT_THROW(sampler.pick(std::vector<float>{1, nan}), Error);
  EXPECT_THROW(sampler.pick(std::vector<float>{1, infinity}), Error);
  EXPECT_THROW(sampler.pick({}), Error);
}

}  // namespace
}  // namespace squish::model
