#include <gtest/gtest.h>

#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

TEST(VptqWithFeedback, LosesMuchLessThanWithoutIt) {
  const struct {
    const char* spec;
    std::size_t rows, cols;
    double share;  // of the loss without moments
  } cases[] = {{"vptq:v=8,k=256,r=16", 256, 128, 0.6},
               {"vptq:v=8,k=256,r=16,order=none", 256, 128, 0.6},
               {"vptq:v=6,k=64,r=1", 130, 96, 0.6},
               {"vptq:v=8,k=16,r=4,refine=0", 128, 100, 0.7},
               {"vptq:v=8,k=64,r=4,groups=3", 250, 100, 0.6},
               {"vptq:v=6,k=64,r=1,groups=2,outliers=4,ov=4,ok=64", 130, 100, 0.6}};
  for (const auto& [spec, rows, cols, share] : cases) {
    const Matrix w = gaussian(rows, cols, 5);
    const InputMoments moments = correlated(cols);
    const double blind = loss(w, encode(w, spec), moments);
    const double seen = loss(w, encode(w, spec, moments), moments);
    std::printf("%s: %.4f -> %.4f\n", spec, blind, seen);
    EXPECT_LT(seen, share * blind) << spec;
  }
}

TEST(VptqWithFeedback, FurtherPassesHelp) {
  const Matrix w = gaussian(512, 128, 9);
  const InputMoments moments = correlated(128);
  const double once = loss(w, encode(w, "vptq:v=8,k=64,r=16,refine=0", moments), moments);
  const double many = loss(w, encode(w, "vptq:v=8,k=64,r=16,refine=10", moments), moments);
  std::printf("%.4f -> %.4f\n", once, many);
  EXPECT_LT(many, 0.97 * once);
}

TEST(VptqWithFeedback, SweepsHelp) {
  const Matrix w = gaussian(70, 200, 1);
  const InputMoments moments = correlated(200);
  for (const std::string spec : {"vptq:v=8,k=16,r=4,damp=0", "vptq:v=6,k=64,r=1,damp=0"}) {
    const double before = loss(w, encode(w, spec + ",sweeps=0", moments), moments);
    const double once = loss(w, encode(w, spec + ",sweeps=1", moments), moments);
    const double thrice = loss(w, encode(w, spec, moments), moments);
    EXPECT_LT(once, 0.97 * before) << spec;
    EXPECT_LT(thrice, once) << spec;
  }
}

TEST(VptqWithFeedback, IsAsGoodAsWithoutWhereInputsAreAlike) {
  const Matrix w = gaussian(256, 256, 6);
  const char* const spec = "vptq:v=8,k=256,r=16";
  EXPECT_NEAR(snr(w, decode(encode(w, spec, uncorrelated(256)))), snr(w, decode(encode(w, spec))),
              0.15);
}

// The columns whose inputs are strongest cost most: a few bits more for them are well spent.
TEST(VptqWithFeedback, OutlierColumnsHelp) {
  const Matrix w = gaussian(256, 100, 3);
  const InputMoments moments = correlated(100);
  const double without = loss(w, encode(w, "vptq:v=8,k=64,r=1", moments), moments);
  const double with =
      loss(w, encode(w, "vptq:v=8,k=64,r=1,outliers=4,ov=2,ok=64", moments), moments);
  std::printf("%.4f -> %.4f\n", without, with);
  EXPECT_LT(with, 0.9 * without);
}

TEST(VptqWithFeedback, DoesNotDependOnThreads) {
  const Matrix w = gaussian(200, 70, 7);
  const InputMoments moments = correlated(70);
  for (const char* spec : {"vptq:v=8,k=32,r=8,refine=2", "vptq:v=8,k=32,r=8,refine=1,order=none",
                           "vptq:v=6,k=32,r=8,refine=2,groups=3,outliers=5,ov=4,ok=16"}) {
    expect_same_on_any_threads(w, spec, moments);
  }
}

TEST(VptqWithFeedback, SurvivesSingularMomentsAndColumnsOfZeros) {
  Matrix w = gaussian(40, 48, 8);
  for (std::size_t i = 0; i < 40; ++i) w(i, 7) = 0;
  InputMoments moments{linalg::SymmetricMatrix(48), std::vector<double>(48)};
  for (std::size_t i = 0; i < 48; ++i) {
    for (std::size_t j = 0; j < 48; ++j)
      moments.second.at(i, j) = i < 3 || j < 3 ? 0 : 1;  // rank 1
  }
  for (const char* spec : {"vptq:v=8,k=16,r=4", "vptq:v=8,k=16,r=4,order=none,damp=0"}) {
    const Matrix decoded = decode(encode(w, spec, moments));
    for (std::size_t i = 0; i < decoded.size(); ++i) {
      ASSERT_TRUE(std::isfinite(decoded.data()[i])) << spec;
    }
    for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(decoded(i, 7), 0) << spec;
  }
}

}  // namespace
}  // namespace squish::quant
