#include "squish/quant/additive_hessian.h"

#include <gtest/gtest.h>

#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

TEST(AqlmUnderHessian, LosesMuchLessThanWithoutIt) {
  // Groups that divide the columns, that leave a remainder, and longer ones than a run of columns.
  const struct {
    const char* spec;
    std::size_t rows, cols;
  } cases[] = {{"aqlm:m=2,b=5,g=8", 256, 128},
               {"aqlm:m=1,b=8,g=4", 96, 134},
               {"aqlm:m=3,b=4,g=6,beam=1", 128, 100}};
  for (const auto& [spec, rows, cols] : cases) {
    const Matrix w = gaussian(rows, cols, 5);
    const InputMoments moments = correlated(cols);
    const double blind = loss(w, encode(w, spec), moments);
    const double seen = loss(w, encode(w, spec, moments), moments);
    std::printf("%s: %.4f -> %.4f\n", spec, blind, seen);
    EXPECT_LT(seen, 0.6 * blind) << spec;
  }
}

TEST(AqlmUnderHessian, IsAsGoodAsTheSearchWithoutWhereInputsAreAlike) {
  const Matrix w = gaussian(256, 256, 6);
  const char* const spec = "aqlm:m=2,b=6,g=8";
  const double blind = snr(w, decode(encode(w, spec)));
  const double seen = snr(w, decode(encode(w, spec, uncorrelated(256))));
  std::printf("%.3f %.3f dB\n", blind, seen);
  EXPECT_NEAR(seen, blind, 0.15);
}

TEST(AqlmUnderHessian, DoesNotDependOnThreads) {
  const Matrix w = gaussian(100, 70, 7);
  const InputMoments moments = correlated(70);
  expect_same_on_any_threads(w, "aqlm:m=2,b=4,g=8,rounds=3", moments);
}

TEST(AqlmUnderHessian, SurvivesDeadInputsAndRowsOfZeros) {
  Matrix w = gaussian(40, 48, 8);
  for (float& value : w.row(3)) value = 0;
  InputMoments moments = correlated(48);
  for (std::size_t j = 0; j < 48; ++j) {
    for (const std::size_t dead : {0, 17, 40}) {
      moments.second.at(dead, j) = 0;
      moments.second.at(j, dead) = 0;
    }
  }
  const Matrix decoded = decode(encode(w, "aqlm:m=2,b=4,g=8", moments));
  for (const float value : decoded.row(3)) EXPECT_EQ(value, 0);
  for (std::size_t i = 0; i < decoded.size(); ++i) EXPECT_TRUE(std::isfinite(decoded.data()[i]));
  EXPECT_LT(loss(w, encode(w, "aqlm:m=2,b=4,g=8", moments), moments), 0.3);

  const InputMoments none{linalg::SymmetricMatrix(48), std::vector<double>(48)};
  EXPECT_GT(snr(w, decode(encode(w, "aqlm:m=2,b=4,g=8", none))), 5);
}

}  // namespace
}  // namespace squish::quant
