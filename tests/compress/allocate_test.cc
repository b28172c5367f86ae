#include "squish/compress/allocate.h"

#include <gmock/gmock.h>

#include "squish/base/error.h"
#include "squish/base/random.h"

namespace squish::compress {
namespace {

using Tensors = std::vector<std::vector<Choice>>;

std::uint64_t bits_of(const Tensors& tensors, const std::vector<std::size_t>& chosen) {
  std::uint64_t bits = 0;
  for (std::size_t t = 0; t < tensors.size(); ++t) bits += tensors[t][chosen[t]].bits;
  return bits;
}

double loss_of(const Tensors& tensors, const std::vector<std::size_t>& chosen) {
  double loss = 0;
  for (std::size_t t = 0; t < tensors.size(); ++t) loss += tensors[t][chosen[t]].loss;
  return loss;
}

/// The least loss of all combinations within the budget.
double exhaustive(const Tensors& tensors, std::uint64_t budget, std::size_t first = 0) {
  if (first == tensors.size()) return 0;
  double best = 1e300;
  for (const Choice& choice : tensors[first]) {
    if (choice.bits > budget) continue;
    best = std::min(best, choice.loss + exhaustive(tensors, budget - choice.bits, first + 1));
  }
  return best;
}

/// Each bit saved costs four times the loss, with sizes and sensitivities that differ.
Tensors random_tensors(std::uint64_t seed, std::size_t count) {
  const CounterRng random(seed, "tensors");
  Tensors tensors(count);
  for (std::size_t t = 0; t < count; ++t) {
    const std::uint64_t weights = 1 + random.bits(2 * t) % 9;
    double loss = 1 + static_cast<double>(random.bits(2 * t + 1) % 1000);
    for (std::uint64_t rate = 2; rate <= 5; ++rate, loss /= 4) {
      tensors[t].push_back({weights * rate, loss});
    }
  }
  return tensors;
}

TEST(Allocate, StaysInTheBudgetAndNearTheBestCombination) {
  double sum = 0, best = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Tensors tensors = random_tensors(seed, 6);
    const std::uint64_t least = bits_of(tensors, std::vector<std::size_t>(6, 0));
    for (std::uint64_t extra = 0; extra < 60; extra += 7) {
      const auto chosen = allocate(tensors, least + extra);
      EXPECT_LE(bits_of(tensors, chosen), least + extra);
      const double found = loss_of(tensors, chosen), bound = exhaustive(tensors, least + extra);
      EXPECT_GE(found, bound * (1 - 1e-12));
      sum += found;
      best += bound;
    }
  }
  EXPECT_LT(sum, 1.05 * best);  // six tensors: a step is a large part of the budget
}

TEST(Allocate, IsExactWhereAWholeStepMeetsTheBudget) {
  // With a budget for all but the last step, that step is the one that saves least per bit.
  const Tensors tensors = {{{10, 8}, {20, 2}, {30, 0.5}}, {{10, 4}, {20, 1}, {30, 0.25}}};
  EXPECT_EQ(allocate(tensors, 50), (std::vector<std::size_t>{2, 1}));
  EXPECT_EQ(allocate(tensors, 30), (std::vector<std::size_t>{1, 0}));
}

TEST(Allocate, PassesOverChoicesInsideTheHullButMayFillUpWithThem) {
  const Tensors tensors = {{{10, 10}, {20, 9}, {30, 0}}};
  EXPECT_EQ(allocate(tensors, 30), (std::vector<std::size_t>{2}));
  EXPECT_EQ(allocate(tensors, 29), (std::vector<std::size_t>{1}));
  EXPECT_EQ(allocate(tensors, 10), (std::vector<std::size_t>{0}));
}

TEST(Allocate, RefusesABudgetThatCannotBeMet) {
  EXPECT_THROW(allocate(Tensors{{{10, 1}}, {{10, 1}}}, 19), Error);
}

}  // namespace
}  // namespace squish::compress
