#include "squish/quant/trellis_code.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "squish/base/random.h"
#include "squish/base/threads.h"
#include "squish/quant/kmeans.h"

namespace squish::quant {
namespace {

constexpr std::uint32_t kStates[] = {0, 1, 2, 4660, 12345, 65535};

/// Values are stored over their RMS; ratios to another state's undo that.
void expect_values(const char* name, const std::vector<double>& published) {
  const TrellisCode& code = trellis_code(name, 2);
  const double unit = published[0] / code.values[kStates[0]];
  for (std::size_t i = 0; i < published.size(); ++i) {
    EXPECT_NEAR(unit * code.values[kStates[i]], published[i], 1e-5 * std::abs(published[3]))
        << name << " of " << kStates[i];
  }
}

// Worked out from QTIP's definitions by other code (methods.md 13.5).
TEST(TrellisCode, HasThePublishedValues) {
  expect_values("1mad", {-185, -124, -63, 224, 3, 61});
  expect_values("3inst", {0.76806640625, -0.91943359375, 0.931640625, -2.19921875, 1.0869140625,
                          -0.158203125});
  const std::pair<std::uint32_t, bool> hybrid[] = {{0, false},   {0, false},  {0, false},
                                                   {435, false}, {115, true}, {0, false}};
  const TrellisCode& code = trellis_code("hyb", 2);
  for (std::size_t i = 0; i < std::size(kStates); ++i) {
    const HybEntry entry = hyb_entry(kStates[i]);
    EXPECT_EQ(entry.index, hybrid[i].first);
    EXPECT_EQ(entry.negate, hybrid[i].second);
  }
  EXPECT_EQ(code.step, 2u);
  EXPECT_EQ(code.values.size(), 2 * code.states());
}

// Sums of floats differ by instruction set, so now and then a pair's centroid, too.
TEST(TrellisCode, HasTheHybridTableThatKMeansFinds) {
  constexpr std::size_t kPairs = 512, kSamples = std::size_t{1} << 17;
  const CounterRng rng(0, "trellis hyb");
  VectorSet set{2, kSamples, 0, {}, AlignedVector<float>(kSamples, 1.0f)};
  for (std::size_t i = 0; i < 2 * kSamples; ++i) {
    set.values.push_back(static_cast<float>(rng.normal(i)));
  }
  ThreadPool pool(2);
  const Codebook book = kmeans(set, kPairs, 20, 0, "trellis hyb", pool);
  double squares = 0;
  for (const float v : book.values) squares += double{v} * v;
  const double scale = 0.9682458 / std::sqrt(squares / (2 * kPairs));
  const TrellisCode& code = trellis_code("hyb", 2);
  double error = 0;
  for (std::uint32_t s = 0; s < code.states(); ++s) {
    const HybEntry entry = hyb_entry(s);
    const float* const pair = book[entry.index];
    error += std::pow(scale * pair[0] * (entry.negate ? -1 : 1) - code.values[s], 2);
    error += std::pow(scale * pair[1] - code.values[code.states() + s], 2);
  }
  EXPECT_LT(std::sqrt(error / static_cast<double>(2 * code.states())), 0.02);
}

TEST(TrellisCode, HasValuesOfAboutUnitVariance) {
  for (const char* name : {"hash", "fast", "1mad", "3inst", "hyb"}) {
    for (unsigned bits = 1; bits <= 4; ++bits) {
      const TrellisCode& code = trellis_code(name, bits);
      double sum = 0, squares = 0;
      for (const float v : code.values) sum += v, squares += double{v} * v;
      const auto n = static_cast<double>(code.values.size());
      EXPECT_NEAR(sum / n, 0, 0.06) << name << ", " << bits;
      EXPECT_NEAR(std::sqrt(squares / n), 1, 0.2) << name << ", " << bits;
    }
  }
}

TEST(TrellisCode, OursFitsVectorRegisters) {
  for (const char* name : {"hash", "fast"}) {
    for (unsigned bits = 1; bits <= 4; ++bits) {
      const LinearHashCode& code = linear_hash_code(name, bits);
      for (std::uint32_t a = 1; a < 1u << code.state_bits; a = 3 * a + 1) {
        const std::uint32_t b = (a * 40503u) & ((1u << code.state_bits) - 1);
        EXPECT_EQ(code.hash(a) ^ code.hash(b), code.hash(a ^ b));
      }
      const std::vector<float>& values = trellis_code(name, bits).values;
      for (const float v : values) {
        const float whole = v / code.unit;
        EXPECT_NEAR(whole, std::round(whole), 1e-3);
        EXPECT_LE(std::abs(whole), 127.01f);
      }
    }
  }
}

}  // namespace
}  // namespace squish::quant
