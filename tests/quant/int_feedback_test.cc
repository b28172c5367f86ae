// INT2 to INT8 with the moments of the inputs: GPTQ.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "squish/base/error.h"
#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(IntFeedback, IsRoundingToNearestWhereInputsAreIndependent) {
  const Matrix w = gaussian(70, 150, 1);
  for (const char* spec : {"int4", "int2:clip=mse,g=50", "int3:sym=1,scale=f16,g=0", "int8:g=1",
                           "int4:order=none", "int4:order=none,clip=mse,g=7"}) {
    EXPECT_TRUE(same_bytes(encode(w, spec, uncorrelated(150)), encode(w, spec))) << spec;
  }
}

TEST(IntFeedback, LosesMuchLessThanRoundingToNearest) {
  const Matrix w = gaussian(96, 256, 1);
  const InputMoments moments = correlated(256);
  for (const auto& [spec, most] :
       std::vector<std::pair<std::string, double>>{{"int4", 0.4},
                                                   {"int4:order=none", 0.4},
                                                   {"int4:clip=mse,g=32", 0.4},
                                                   {"int3:sym=1", 0.4},
                                                   {"int2:clip=mse", 0.5},
                                                   {"int2:clip=mse,order=none", 0.5},
                                                   {"int8:scale=f16", 0.4}}) {
    const double before = loss(w, encode(w, spec), moments);
    const double after = loss(w, encode(w, spec, moments), moments);
    EXPECT_LT(after, most * before) << spec << ": " << before << " -> " << after;
    RecordProperty(spec, std::to_string(after / before));
  }
}

TEST(IntFeedback, LosesLessWithEachSweep) {
  const Matrix w = gaussian(70, 200, 1);
  const InputMoments moments = correlated(200);
  for (const std::string spec :
       {"int4:damp=0", "int2:damp=0,clip=mse", "int3:damp=0,clip=mse,sym=1,g=50",
        "int3:damp=0,clip=mse,scale=f16,order=none", "int2:damp=0,clip=mse,g=0"}) {
    double before = loss(w, encode(w, spec + ",sweeps=0", moments), moments);
    const double gptq = before;
    for (const char* sweeps : {",sweeps=1", ",sweeps=2", ",sweeps=3"}) {
      const double after = loss(w, encode(w, spec + sweeps, moments), moments);
      EXPECT_LT(after, before) << spec << sweeps;
      before = after;
    }
    const bool grids_too = spec.find("clip=mse") != std::string::npos;
    EXPECT_LT(before, (grids_too ? 0.95 : 1.0) * gptq) << spec;
  }
}

TEST(IntFeedback, GivesTheSameBytesOnAnyNumberOfThreads) {
  const Matrix w = gaussian(150, 130, 1);
  const InputMoments moments = correlated(130);
  for (const char* spec : {"int4", "int2:clip=mse", "int3:order=none,clip=mse,g=16"}) {
    expect_same_on_any_threads(w, spec, moments);
  }
}

TEST(IntFeedback, TakesAnyShapeAndBrokenMoments) {
  for (const auto& [rows, cols] :
       std::vector<std::pair<std::size_t, std::size_t>>{{1, 1}, {3, 5}, {65, 1}, {1, 300}}) {
    const Matrix w = gaussian(rows, cols, 1);
    EXPECT_GT(snr(w, decode(encode(w, "int8", correlated(cols)))), 20);
  }
  const Matrix w = gaussian(10, 40, 1);
  InputMoments none = uncorrelated(40), broken = correlated(40);
  for (std::size_t j = 0; j < 40; ++j) none.second.at(j, j) = 0;
  broken.second.at(3, 3) = std::nan("");
  for (const char* spec : {"int4", "int4:clip=mse,order=none", "int4:clip=mse,damp=0"}) {
    EXPECT_GT(snr(w, decode(encode(w, spec, none))), 19) << spec;
    EXPECT_GT(snr(w, decode(encode(w, spec, broken))), 10) << spec;
  }
}

TEST(IntFeedback, RefusesMomentsOfOtherInputs) {
  const Matrix w = gaussian(10, 40, 1);
  EXPECT_THAT([&] { encode(w, "int4", correlated(39)); },
              ThrowsMessage<Error>(HasSubstr("moments of 39 inputs")));
  struct Other : Prepared {
  } other;
  other.inputs = 40;
  ThreadPool pool(1);
  EXPECT_THAT(
      [&] {
        quantize(w, Spec::parse("int4"), {pool, 1, "test", &other});
      },
      ThrowsMessage<Error>(HasSubstr("not prepared for int4")));
}

}  // namespace
}  // namespace squish::quant
