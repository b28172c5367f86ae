// QuIP# with the moments of the inputs: LDLQ in blocks of 8 and coordinate descent.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

TEST(QuipFeedback, LosesMuchLessThanNearestPoints) {
  const Matrix w = gaussian(96, 256, 1);
  const InputMoments moments = correlated(256);
  for (const char* bits : {"2", "3", "4"}) {
    const std::string spec = std::string("quip:bits=") + bits;
    const double nearest = loss(w, encode(w, spec), moments);
    const double ldlq = loss(w, encode(w, spec + ",sweeps=0", moments), moments);
    const double descended = loss(w, encode(w, spec, moments), moments);
    EXPECT_LT(ldlq, 0.5 * nearest) << bits;
    EXPECT_LT(descended, 0.99 * ldlq) << bits;
    EXPECT_GT(descended, 0.6 * ldlq) << bits;
  }
}

TEST(QuipFeedback, StaysAsGoodWhereInputsAreIndependent) {
  const Matrix w = gaussian(96, 256, 1);
  EXPECT_NEAR(snr(w, decode(encode(w, "quip", uncorrelated(256)))),
              snr(w, decode(encode(w, "quip"))), 0.05);
}

TEST(QuipFeedback, GivesTheSameBytesOnAnyNumberOfThreads) {
  const Matrix w = gaussian(150, 136, 1);
  const InputMoments moments = correlated(136);
  for (const char* spec : {"quip:sweeps=2", "quip:bits=3,sweeps=2", "quip:bits=4,sweeps=0"}) {
    expect_same_on_any_threads(w, spec, moments);
  }
}

TEST(QuipFeedback, SharesTheSignsOfTheInputAmongTensors) {
  const Matrix a = gaussian(16, 40, 1), b = gaussian(24, 40, 2);
  const Spec spec = Spec::parse("quip");
  ThreadPool pool(1);
  const auto prepared = prepare(correlated(40), spec, pool, 1, "input");
  const Packed one = quantize(a, spec, {pool, 1, "a", prepared.get()});
  const Packed other = quantize(b, spec, {pool, 1, "b", prepared.get()});
  EXPECT_EQ(bytes_of(one, "signs_in"), bytes_of(other, "signs_in"));
  const auto elsewhere = prepare(correlated(40), spec, pool, 1, "another input");
  EXPECT_NE(bytes_of(one, "signs_in"),
            bytes_of(quantize(a, spec, {pool, 1, "a", elsewhere.get()}), "signs_in"));
}

TEST(QuipFeedback, TakesAnyShapeAndBrokenMoments) {
  for (const auto& [rows, cols] : std::vector<std::pair<std::size_t, std::size_t>>{
           {1, 1}, {3, 5}, {65, 1}, {1, 300}, {70, 43}}) {
    const Matrix w = gaussian(rows, cols, 1);
    EXPECT_GT(snr(w, decode(encode(w, "quip:bits=4", correlated(cols)))), 10);
  }
  const Matrix w = gaussian(10, 40, 1);
  InputMoments none = uncorrelated(40), broken = correlated(40), huge = correlated(40);
  for (std::size_t j = 0; j < 40; ++j) none.second.at(j, j) = 0;
  broken.second.at(3, 3) = std::nan("");
  for (std::size_t i = 0; i < 40; ++i) {
    for (std::size_t j = i; j < 40; ++j) huge.second.at(i, j) *= 1e60;
  }
  EXPECT_GT(snr(w, decode(encode(w, "quip", none))), 9);
  EXPECT_GT(snr(w, decode(encode(w, "quip", broken))), 9);
  EXPECT_LT(loss(w, encode(w, "quip", huge), huge), 0.7 * loss(w, encode(w, "quip"), huge));
}

TEST(QuipFeedback, GainFormMakesNoUseOfMoments) {
  ThreadPool pool(1);
  EXPECT_EQ(prepare(correlated(8), Spec::parse("quip:form=gain"), pool), nullptr);
}

}  // namespace
}  // namespace squish::quant
