// Moments and weights as no calibration should give them, in every method that is calibrated: an
// error, or a result whose every number is finite.
#include <cmath>
#include <functional>
#include <limits>
#include <ostream>
#include <utility>
#include <vector>

#include "tests/quant/methods.h"
#include "tests/test_name.h"

namespace squish::quant {
namespace {

constexpr std::size_t kRows = 24, kCols = 48;

using Element = std::function<double(std::size_t, std::size_t)>;

InputMoments moments_of(const Element& element) {
  InputMoments moments{linalg::SymmetricMatrix(kCols), std::vector<double>(kCols)};
  for (std::size_t i = 0; i < kCols; ++i) {
    for (std::size_t j = 0; j <= i; ++j) moments.second.at(i, j) = element(i, j);
  }
  return moments;
}

InputMoments of_rank_one() {
  return moments_of([](std::size_t i, std::size_t j) {
    return std::sin(1.0 + static_cast<double>(i)) * std::sin(1.0 + static_cast<double>(j));
  });
}

std::vector<std::pair<std::string, InputMoments>> hostile_moments() {
  const InputMoments usual = correlated(kCols);
  const auto scaled = [&](double factor) {
    return moments_of([&](std::size_t i, std::size_t j) { return factor * usual.second(i, j); });
  };
  const auto with = [&](std::size_t a, std::size_t b, double value) {
    InputMoments changed = scaled(1);
    changed.second.at(a, b) = value;
    return changed;
  };
  std::vector<std::pair<std::string, InputMoments>> all = {
      {"zero", moments_of([](auto, auto) { return 0; })},
      {"all equal", moments_of([](auto, auto) { return 2; })},
      {"of rank one", of_rank_one()},
      {"indefinite by rounding",
       moments_of([](std::size_t i, std::size_t j) { return i == j ? 1.0 : 1.0 + 1e-12; })},
      {"negative", scaled(-1)},
      {"huge", scaled(1e300)},
      {"tiny", scaled(1e-300)},
      {"denormal", scaled(5e-324)},
      {"one huge input", with(7, 7, 1e30)},
      {"one impossible covariance", with(7, 3, 1e30)},
      {"one input that is never there", with(7, 7, 0)},
      {"not a number", with(7, 3, std::numeric_limits<double>::quiet_NaN())},
      {"infinite", with(7, 7, std::numeric_limits<double>::infinity())}};
  for (const double mean : {1e300, std::numeric_limits<double>::quiet_NaN()}) {
    InputMoments changed = scaled(1);
    changed.mean[5] = mean;
    all.emplace_back("mean of " + std::to_string(mean), std::move(changed));
  }
  return all;
}

std::vector<std::pair<std::string, Matrix>> hostile_weights() {
  const Matrix usual = gaussian(kRows, kCols, 1);
  const auto made = [](const Element& element) {
    Matrix w(kRows, kCols);
    for (std::size_t i = 0; i < kRows; ++i) {
      for (std::size_t j = 0; j < kCols; ++j) w(i, j) = static_cast<float>(element(i, j));
    }
    return w;
  };
  return {{"usual", usual},
          {"zero", Matrix(kRows, kCols)},
          {"all equal", made([](auto, auto) { return -0.3; })},
          {"of rank one", made([](std::size_t i, std::size_t j) {
             return std::cos(static_cast<double>(i)) * std::sin(static_cast<double>(j));
           })},
          {"one huge outlier", made([&](std::size_t i, std::size_t j) {
             return i == 3 && j == 5 ? 1e14 : double{usual(i, j)};
           })},
          {"denormal", made([&](std::size_t i, std::size_t j) { return 1e-40 * usual(i, j); })},
          {"as large as any", made([](std::size_t i, std::size_t j) {
             return (i + j) % 2 == 0 ? kLargestWeight : -kLargestWeight;
           })}};
}

class HostileMoments : public testing::TestWithParam<const char*> {};

TEST_P(HostileMoments, GiveAnErrorOrFiniteWeights) {
  const auto weights = hostile_weights();
  for (const auto& [moments_name, moments] : hostile_moments()) {
    for (const auto& [weights_name, w] : weights) {
      SCOPED_TRACE("moments " + moments_name + ", weights " + weights_name);
      try {
        const Matrix decoded = decode(encode(w, GetParam(), moments));
        for (std::size_t i = 0; i < decoded.size(); ++i) {
          ASSERT_TRUE(std::isfinite(decoded.data()[i])) << decoded.data()[i] << " at " << i;
        }
      } catch (const Error& error) {
        EXPECT_STRNE(error.what(), "");
      }
    }
  }
}

TEST_P(HostileMoments, OfRankOneStillServe) {
  const InputMoments moments = of_rank_one();
  const Matrix w = gaussian(kRows, kCols, 1);
  EXPECT_LT(loss(w, encode(w, GetParam(), moments), moments),
            loss(w, encode(w, GetParam()), moments));
}

INSTANTIATE_TEST_SUITE_P(, HostileMoments,
                         testing::Values("int4", "int2:g=16,clip=mse", "int3:sym=1", "int8",
                                         "vptq:v=8,k=16,r=4", "aqlm:m=2,b=4,g=8", "quip:bits=2",
                                         "quip:bits=3", "trellis:bits=2",
                                         "trellis:bits=2.5,code=fast", "trellis:form=tiles"),
                         [](const auto& test) { return test::test_name(test.param); });

}  // namespace
}  // namespace squish::quant
