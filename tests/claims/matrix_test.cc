// The figures that the README and the issue claim for one matrix, at 64 x 64 over 20 seeds.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>

#include "squish/base/random.h"
#include "squish/quant/quantizer.h"
#include "tests/test_name.h"

namespace squish::quant {
namespace {

constexpr int kSeeds = 20;
constexpr std::size_t kSize = 64;

Matrix gaussian(std::uint64_t seed) {
  Matrix w(kSize, kSize);
  const CounterRng random(seed, "synthetic");
  for (std::size_t i = 0; i < w.size(); ++i) {
    w.data()[i] = static_cast<float>(0.02 * random.normal(i));
  }
  return w;
}

struct Claim {
  const char* spec;
  double nominal, lowest, highest;  // bits; dB, mean over the seeds
};

class MatrixClaim : public testing::TestWithParam<Claim> {};

TEST_P(MatrixClaim, MeanSnrOverTwentySeeds) {
  const Claim& claim = GetParam();
  const Spec spec = Spec::parse(claim.spec);
  EXPECT_DOUBLE_EQ(find_method(spec.method()).nominal_bpw(spec, kSize, kSize), claim.nominal);

  ThreadPool pool(2);
  double sum = 0, squares = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Matrix w = gaussian(seed);
    const Matrix decoded = dequantize(quantize(w, spec, {pool, seed, "claim"}), pool);
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double x = w.data()[i], d = x - decoded.data()[i];
      signal += x * x;
      noise += d * d;
    }
    const double snr = 10 * std::log10(signal / noise);
    sum += snr;
    squares += snr * snr;
  }
  const double mean = sum / kSeeds, spread = std::sqrt(squares / kSeeds - mean * mean);
  RecordProperty("snr_db", std::to_string(mean) + " +- " + std::to_string(spread));
  std::printf("%-28s %6.3f +- %.3f dB\n", claim.spec, mean, spread);
  EXPECT_GE(mean, claim.lowest);
  EXPECT_LE(mean, claim.highest) << "better than known: find out why, then move the band";
}

INSTANTIATE_TEST_SUITE_P(At64, MatrixClaim,
                         testing::Values(Claim{"int4:sym=0,g=64", 5.0, 20.85, 21.1},
                                         Claim{"int4:sym=0,g=64,clip=mse", 5.0, 21.3, 22.0},
                                         Claim{"int4:sym=1,g=64", 4.5, 19.2, 19.6},
                                         Claim{"vptq:v=8,k=16,r=4", 1.25, 3.7, 5.5},
                                         Claim{"quip:form=gain", 3.0, 5.55, 6.6},
                                         Claim{"quip:bits=2", 2.0, 10.2, 10.6},
                                         Claim{"quip:bits=3", 3.0, 15.2, 15.45},
                                         Claim{"quip:bits=4", 4.0, 20.5, 20.75},
                                         Claim{"aqlm:m=2,b=4,g=4", 2.0, 10.6, 10.85}),
                         [](const auto& tested) { return test::test_name(tested.param.spec); });

// The original benchmark's compress times, in milliseconds: at least ten times faster.
class CompressTime : public testing::TestWithParam<std::pair<const char*, double>> {};

TEST_P(CompressTime, IsATenthOfTheOriginal) {
  const Spec spec = Spec::parse(GetParam().first);
  ThreadPool pool(2);
  const Matrix w = gaussian(0);
  std::array<double, 200> times{};
  for (double& time : times) {
    const auto start = std::chrono::steady_clock::now();
    const Packed packed = quantize(w, spec, {pool, 0, "claim"});
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    time = taken.count();
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  const double median = times[times.size() / 2];
  std::printf("%-28s %8.4f ms\n", GetParam().first, median);
  // The same binary was seen to take 0.051 and 0.082 ms within a minute on a shared machine.
  if (std::getenv("SQUISH_TIMINGS") == nullptr) {
    GTEST_SKIP() << "only measured: set SQUISH_TIMINGS=1 on a quiet machine to assert it";
  }
  EXPECT_LE(median, GetParam().second / 10);
}

INSTANTIATE_TEST_SUITE_P(At64, CompressTime,
                         testing::Values(std::pair{"int4:sym=0,g=64", 0.8},
                                         std::pair{"vptq:v=8,k=16,r=4", 111.1},
                                         std::pair{"quip:form=gain", 0.7}),
                         [](const auto& tested) {
                           const std::string spec = tested.param.first;
                           return spec.substr(0, spec.find(':'));
                         });

}  // namespace
}  // namespace squish::quant
