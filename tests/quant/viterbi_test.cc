#include "squish/quant/viterbi.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "squish/base/isa.h"
#include "squish/base/random.h"

namespace squish::quant {
namespace {

TrellisCode random_code(unsigned bits, unsigned state_bits, unsigned step = 1) {
  TrellisCode code{bits, state_bits, step, {}};
  const CounterRng rng(bits, "trellis values");
  for (std::size_t i = 0; i < step * code.states(); ++i) {
    code.values.push_back(static_cast<float>(rng.normal(i)));
  }
  return code;
}

std::vector<float> gaussian_row(std::size_t n, std::uint64_t seed) {
  const CounterRng rng(seed, "weights");
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(rng.normal(i));
  return x;
}

double squared_error(const TrellisCode& code, std::span<const float> x,
                     std::span<const std::uint16_t> symbols) {
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint32_t state = trellis_state(code, symbols, i / code.step);
    error += std::pow(x[i] - code.values[(i % code.step << code.state_bits) + state], 2);
  }
  return error;
}

/// The least error of any ring, by a search from each first state, in doubles and scalar.
double least_error(const TrellisCode& code, const std::vector<float>& x) {
  const std::size_t states = code.states(), groups = states >> code.step_bits();
  const std::size_t steps = x.size() / code.step;
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t seam = 0; seam < groups; ++seam) {
    std::vector<double> cost(states, std::numeric_limits<double>::infinity()), next(states);
    for (std::size_t s = seam; s < states; s += groups) cost[s] = 0;
    for (std::size_t q = steps; q-- > 0;) {
      std::fill(next.begin(), next.end(), std::numeric_limits<double>::infinity());
      for (std::size_t from = 0; from < states; ++from) {
        for (std::size_t symbol = 0; symbol < states / groups; ++symbol) {
          const std::size_t to = (from << code.step_bits() | symbol) & (states - 1);
          double error = cost[from];
          for (unsigned i = 0; i < code.step; ++i) {
            error += std::pow(x[q * code.step + i] - code.values[i * states + to], 2);
          }
          next[to] = std::min(next[to], error);
        }
      }
      std::swap(cost, next);
    }
    for (std::size_t s = seam; s < states; s += groups) least = std::min(least, cost[s]);
  }
  return least;
}

std::vector<std::uint16_t> encode(const TrellisCode& code, std::span<const float> x,
                                  std::size_t steps) {
  const ViterbiCode prepared(code);
  ViterbiEncoder encoder(prepared);
  std::vector<std::uint16_t> symbols(steps);
  encoder.encode(x, symbols);
  return symbols;
}

TEST(Viterbi, ComesCloseToTheBestOfAllRings) {
  for (const auto& [bits, state_bits] : {std::pair{1u, 10u}, {2u, 11u}}) {
    const TrellisCode code = random_code(bits, state_bits);
    double found = 0, least = 0;
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      const std::vector<float> x = gaussian_row(128, seed);
      const double error = squared_error(code, x, encode(code, x, 128)),
                   best = least_error(code, x);
      EXPECT_GE(error, best - 1e-9);
      found += error;
      least += best;
    }
    // Metrics are whole numbers, and the state at the seam is found without the ring.
    EXPECT_LT(found, 1.01 * least) << bits << " of " << state_bits;
  }
}

TEST(Viterbi, TakesTwoWeightsAStep) {
  const TrellisCode code = random_code(1, 11, 2);
  const std::vector<float> x = gaussian_row(256, 1);
  const auto symbols = encode(code, x, 128);
  for (const std::uint16_t symbol : symbols) EXPECT_LT(symbol, 4);
  EXPECT_LT(squared_error(code, x, symbols), 1.01 * least_error(code, x));
}

TEST(Viterbi, FindsValuesThatAPathStandsFor) {
  const TrellisCode code = random_code(2, 11);
  std::vector<std::uint16_t> symbols(96);
  const CounterRng rng(3, "symbols");
  for (std::size_t q = 0; q < symbols.size(); ++q) {
    symbols[q] = static_cast<std::uint16_t>(rng.bits(q) & 3);
  }
  std::vector<float> x(96);
  for (std::size_t q = 0; q < x.size(); ++q) x[q] = code.values[trellis_state(code, symbols, q)];
  EXPECT_EQ(encode(code, x, 96), symbols);
}

TEST(Viterbi, CountsNothingForWeightsThatAreMissing) {
  const TrellisCode code = random_code(2, 11);
  const std::vector<float> x = gaussian_row(59, 5);
  const double free_end = squared_error(code, x, encode(code, x, 64));
  std::vector<float> padded = x;
  padded.resize(64);
  EXPECT_LT(free_end, squared_error(code, padded, encode(code, padded, 64)));
}

TEST(Viterbi, TakesTheShortestRingsAndWildWeights) {
  const TrellisCode code = random_code(4, 16);
  std::vector<float> x(40);
  x[10] = 1e6f;
  x[25] = -1e30f;
  const auto symbols = encode(code, x, 40);
  const auto [low, high] = std::minmax_element(code.values.begin(), code.values.end());
  EXPECT_GT(code.values[trellis_state(code, symbols, 10)], 0.7f * *high);
  EXPECT_LT(code.values[trellis_state(code, symbols, 25)], 0.7f * *low);
  const auto one = encode(code, std::vector<float>{1}, 16);        // and a ring of four states
  EXPECT_NEAR(code.values[trellis_state(code, one, 0)], 1, 0.05);  // metrics are whole
}

// Where every path saturates at such a weight, what came before is lost.
TEST(Viterbi, CodesTheRestAsWellBesideAWeightThatNoValueIsNear) {
  for (const char* name : {"fast", "hash"}) {
    for (const unsigned bits : {1u, 2u, 3u, 4u}) {
      const TrellisCode& code = trellis_code(name, bits);
      const std::vector<float> x = gaussian_row(256, bits);
      std::vector<float> wild = x;
      wild[100] = 5;
      const auto rest = [&](std::span<const float> weights) {
        const auto symbols = encode(code, weights, 256);
        const double own = weights[100] - trellis_value(code, symbols, 100);
        return squared_error(code, weights, symbols) - own * own;
      };
      // The weights beside it give way to it.
      EXPECT_LT(rest(wild), rest(x) + (bits < 3 ? 4 : 1)) << name << ", " << bits << " bits";
    }
  }
}

TEST(Viterbi, GivesTheSameOnEveryInstructionSet) {
  for (const unsigned bits : {1u, 2u, 3u, 4u}) {
    const TrellisCode code = random_code(bits, 13);
    std::vector<float> x = gaussian_row(200, bits);
    x[60] = 5;
    const auto best = encode(code, x, 200);
    for (const Isa isa : available_isas()) {
      set_isa(isa);
      EXPECT_EQ(encode(code, x, 200), best) << to_string(isa) << ", " << bits << " bits";
      set_isa(available_isas().back());
    }
  }
}

TEST(Viterbi, GivesTheSameWithUsedBuffers) {
  const TrellisCode code = random_code(3, 12);
  const ViterbiCode prepared(code);
  ViterbiEncoder encoder(prepared);
  std::vector<std::uint16_t> first(80), again(80), other(240);
  encoder.encode(gaussian_row(80, 1), first);
  encoder.encode(gaussian_row(240, 2), other);
  encoder.encode(gaussian_row(80, 1), again);
  EXPECT_EQ(first, again);
}

}  // namespace
}  // namespace squish::quant
