#include "squish/model/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "squish/base/half.h"
#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "squish/model/kv_cache.h"

namespace squish::model {
namespace {

Matrix random_matrix(std::size_t rows, std::size_t cols, std::uint64_t seed) {
  const CounterRng rng(seed, "attention_test");
  Matrix m(rows, cols);
  for (std::size_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(2 * rng.normal(i));
  return m;
}

/// The definition, in double.
Matrix reference(const io::ModelConfig& config, const Matrix& q, const Matrix& k, const Matrix& v) {
  const std::size_t d = config.head_dim, past = k.rows() - q.rows();
  Matrix out(q.rows(), q.cols());
  for (std::size_t t = 0; t < q.rows(); ++t) {
    for (std::size_t head = 0; head < config.heads; ++head) {
      const std::size_t shared = head / (config.heads / config.kv_heads);
      std::vector<double> sum(d);
      double total = 0;
      for (std::size_t s = 0; s <= past + t; ++s) {
        if (config.sliding_window > 0 && s + config.sliding_window <= past + t) continue;
        double score = 0;
        for (std::size_t j = 0; j < d; ++j) {
          score += static_cast<double>(q(t, head * d + j)) * k(s, shared * d + j);
        }
        const double weight = std::exp(score / std::sqrt(static_cast<double>(d)));
        total += weight;
        for (std::size_t j = 0; j < d; ++j) sum[j] += weight * v(s, shared * d + j);
      }
      for (std::size_t j = 0; j < d; ++j) out(t, head * d + j) = static_cast<float>(sum[j] / total);
    }
  }
  return out;
}

struct Case {
  std::size_t heads, kv_heads, head_dim, window, past, tokens;
  KvElement element = KvElement::f32;
};
// Whole prompts of one block and of several, continued ones, single tokens; windows shorter than
// one block, longer than one, and longer than everything.
const std::vector<Case> kCases = {
    {1, 1, 2, 0, 0, 1},
    {4, 2, 8, 0, 0, 30},
    {6, 2, 16, 0, 0, 150},
    {3, 3, 8, 0, 70, 90},
    {4, 1, 8, 0, 99, 1},
    {4, 2, 8, 10, 0, 48},
    {4, 2, 8, 10, 0, 140},
    {4, 2, 8, 100, 50, 170},
    {2, 1, 64, 10, 99, 1},
    {2, 1, 8, 1, 5, 20},
    {2, 2, 8, 1000, 0, 70},
    {4, 2, 8, 64, 64, 64},
    {9, 3, 64, 0, 500, 1},
    {4, 2, 80, 70, 300, 1},
    {9, 3, 64, 0, 500, 1, KvElement::f16},
    {6, 2, 20, 0, 63, 1, KvElement::f16},
    {4, 2, 64, 100, 50, 170, KvElement::f16},
};

io::ModelConfig config_of(const Case& c) {
  io::ModelConfig config;
  config.heads = c.heads;
  config.kv_heads = c.kv_heads;
  config.head_dim = c.head_dim;
  config.sliding_window = c.window;
  config.layers = 1;
  return config;
}

Matrix compute(const Case& c, ThreadPool& pool, bool by_definition = false) {
  const io::ModelConfig config = config_of(c);
  const Matrix q = random_matrix(c.tokens, c.heads * c.head_dim, 1);
  Matrix k = random_matrix(c.past + c.tokens, c.kv_heads * c.head_dim, 2);
  Matrix v = random_matrix(c.past + c.tokens, c.kv_heads * c.head_dim, 3);
  for (Matrix* m : {&k, &v}) {
    for (std::size_t i = 0; c.element == KvElement::f16 && i < m->size(); ++i) {
      m->data()[i] = from_f16(to_f16(m->data()[i]));
    }
  }
  if (by_definition) return reference(config, q, k, v);
  // In two pieces, with room left.
  KvCache cache(config, k.rows() + 3, c.element);
  const auto store = [&](std::size_t begin, std::size_t end) {
    cache.store(0, k.view().row_range(begin, end), v.view().row_range(begin, end), pool);
    cache.advance(end - begin);
  };
  store(0, c.past);
  store(c.past, k.rows());
  Matrix out(q.rows(), q.cols());
  attention(config, q, cache.layer(0, k.rows()), out, pool);
  return out;
}

TEST(Attention, AgreesWithTheDefinitionOnEveryInstructionSet) {
  ThreadPool pool(2);
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (std::size_t i = 0; i < kCases.size(); ++i) {
      const Matrix got = compute(kCases[i], pool), expected = compute(kCases[i], pool, true);
      for (std::size_t j = 0; j < got.size(); ++j) {
        ASSERT_NEAR(got.data()[j], expected.data()[j], 1e-5) << "case " << i << ", " << j;
      }
    }
  }
  set_isa(before);
}

TEST(Attention, SameBitsForEveryNumberOfThreads) {
  for (std::size_t i = 0; i < kCases.size(); ++i) {
    ThreadPool one(1), four(4);
    const Matrix a = compute(kCases[i], one), b = compute(kCases[i], four);
    for (std::size_t j = 0; j < a.size(); ++j) ASSERT_EQ(a.data()[j], b.data()[j]) << i;
  }
}

/// One element of a head dwarfs the others, as those of Qwen2's keys do: alone in a unit, 8 bits
/// would leave nothing of the rest.
TEST(Attention, EightBitsKeepWhatOutliersAreAmong) {
  ThreadPool pool(2);
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (const std::size_t tokens : {1, 70}) {
      for (const std::size_t head_dim : {64, 80, 128}) {
        const io::ModelConfig config = config_of({6, 2, head_dim, 40, 0, tokens});
        const std::size_t length = tokens + 90;
        const Matrix q = random_matrix(tokens, 6 * head_dim, 1);
        Matrix k = random_matrix(length, 2 * head_dim, 2);
        const Matrix v = random_matrix(length, 2 * head_dim, 3);
        for (std::size_t t = 0; t < length; ++t) k(t, 5) = k(t, head_dim + 7) = 300;
        KvCache cache(config, length, KvElement::int8);
        cache.store(0, k, v, pool);
        Matrix out(tokens, q.cols());
        attention(config, q, cache.layer(0, length), out, pool);
        const Matrix expected = reference(config, q, k, v);
        double error = 0, square = 0;
        for (std::size_t i = 0; i < out.size(); ++i) {
          error += std::pow(out.data()[i] - expected.data()[i], 2);
          square += std::pow(expected.data()[i], 2);
        }
        EXPECT_LT(std::sqrt(error / square), 0.1) << head_dim << to_string(isa);
        cache.advance(length);
        EXPECT_EQ(cache.bytes(), 40 * 2 * 2 * (head_dim + 4) + 2 * 4 * head_dim);
      }
    }
  }
  set_isa(before);
}

TEST(Attention, EightBitsTellWhatIsNotFinite) {
  ThreadPool pool(1);
  const io::ModelConfig config = config_of({1, 1, 8, 0, 0, 2});
  Matrix q(2, 8), k(2, 8), v(2, 8), out(2, 8);
  k(1, 3) = std::numeric_limits<float>::infinity();
  KvCache cache(config, 2, KvElement::int8);
  cache.store(0, k, v, pool);
  attention(config, q, cache.layer(0, 2), out, pool);
  for (std::size_t j = 0; j < 8; ++j) {
    EXPECT_EQ(out(0, j), 0);
    EXPECT_TRUE(std::isnan(out(1, j)));
  }
}

TEST(Attention, SurvivesScoresThatOverflowAnExponential) {
  ThreadPool pool(1);
  const io::ModelConfig config = config_of({1, 1, 2, 0, 0, 3});
  Matrix q(3, 2), k(3, 2), v(3, 2), out(3, 2);
  for (std::size_t t = 0; t < 3; ++t) {
    q(t, 0) = 1000;
    k(t, 0) = t == 1 ? 1000.0f : -1000.0f;
    v(t, 0) = static_cast<float>(t);
  }
  KvCache cache(config, 3);
  cache.store(0, k, v, pool);
  attention(config, q, cache.layer(0, 3), out, pool);
  EXPECT_EQ(out(0, 0), 0);
  EXPECT_EQ(out(1, 0), 1);
  EXPECT_EQ(out(2, 0), 1);
  attention(config, q.view().row_range(2, 3), cache.layer(0, 3), out.view().row_range(0, 1), pool);
  EXPECT_EQ(out(0, 0), 1);
}

}  // namespace
}  // namespace squish::model
