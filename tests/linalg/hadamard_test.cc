#include "squish/linalg/hadamard.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "squish/base/file.h"
#include "squish/base/isa.h"
#include "squish/base/random.h"

namespace squish::linalg {
namespace {

std::vector<float> random_signs(std::size_t n, std::string_view key) {
  const CounterRng rng(7, key);
  std::vector<float> signs(n);
  for (std::size_t i = 0; i < n; ++i) signs[i] = rng.bits(i) % 2 != 0 ? -1.0f : 1.0f;
  return signs;
}

Matrix random_matrix(std::size_t rows, std::size_t cols) {
  const CounterRng rng(3, "weights");
  Matrix w(rows, cols);
  for (std::size_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(rng.normal(i));
  return w;
}

// U entry by entry from its definition.
std::vector<double> slow_hadamard(std::size_t n, std::size_t factor) {
  std::vector<double> u(n * n);
  if (factor == 1) {
    std::size_t first = 0;
    for (std::size_t block = std::bit_floor(n); first < n; block = std::bit_floor(n - first)) {
      for (std::size_t i = 0; i < block; ++i) {
        for (std::size_t j = 0; j < block; ++j) {
          u[(first + i) * n + first + j] =
              (std::popcount(i & j) % 2 != 0 ? -1 : 1) / std::sqrt(static_cast<double>(block));
        }
      }
      first += block;
      if (first == n) break;
    }
    return u;
  }
  const std::vector<float> h = hadamard_matrix(factor);
  const std::size_t run = n / factor;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      const int sylvester = std::popcount((i % run) & (j % run)) % 2 != 0 ? -1 : 1;
      u[i * n + j] = static_cast<double>(h[i / run * factor + j / run]) * sylvester /
                     std::sqrt(static_cast<double>(n));
    }
  }
  return u;
}

std::size_t expected_factor(std::size_t n) {
  switch (n) {  // methods.md 0 and 13.1
    case 320:
    case 2560:
      return 20;
    case 192:
    case 1536:
    case 3072:
      return 12;
    case 576:
      return 36;
    case 960:
      return 60;
    case 896:
    case 14336:
      return 28;
    case 4864:
      return 76;
    case 5632:
      return 44;
    case 8960:
      return 140;
    case 11008:
      return 172;
    case 13824:
      return 108;
    case 17408:
      return 68;
    case 18944:
      return 148;
    default:
      return 1;
  }
}

TEST(HadamardMatrix, IsOrthogonal) {
  const std::vector<std::size_t> known = {4,   8,   12,  20,  24,  28,  36,  44,  48,  52,
                                          60,  68,  72,  76,  80,  84,  104, 108, 116, 124,
                                          132, 140, 148, 156, 164, 168, 172, 180, 228, 428 - 8};
  for (const std::size_t order : known) {
    const std::vector<float> h = hadamard_matrix(order);
    ASSERT_EQ(h.size(), order * order) << order;
    for (std::size_t r = 0; r < order; ++r) {
      for (std::size_t s = 0; s <= r; ++s) {
        int dot = 0;
        for (std::size_t c = 0; c < order; ++c) {
          ASSERT_EQ(std::abs(h[r * order + c]), 1.0f);
          dot += static_cast<int>(h[r * order + c] * h[s * order + c]);
        }
        ASSERT_EQ(dot, r == s ? static_cast<int>(order) : 0) << order << " " << r << " " << s;
      }
    }
  }
  for (const std::size_t order : {0u, 1u, 2u, 3u, 6u, 10u, 18u, 30u, 92u, 428u}) {
    EXPECT_TRUE(hadamard_matrix(order).empty()) << order;
  }
}

TEST(HadamardMatrix, HasTheLayoutOfTheReference) {
  const std::vector<std::pair<std::size_t, std::string>> digests = {
      // tests/golden/hadamard.py
      {12, "e027244070138ccb47e17d12803fe848f5fd999b6356b047ef5912bc235f3500"},
      {20, "fe417beb154e4a025f5681e45361076a11b563319f260d39e339c077c2c1e8de"},
      {28, "875b595f85017a38e59a62702d330941052da02816a946c0aabe9c7999fb1aa5"},
      {36, "ca2f600dadc9eef2be2f175699dc6a84f3bf2d827eceec94d8fb6e51b26152e7"},
      {52, "45407bed337ae24539d0d7e3ee1bfc8ae03e8755999c074135dd3ee057f76fa0"},
      {60, "134db0a162626c03430bbb587ffa201a8c4c52cec3db13548d18ca442ff3a6e0"},
      {108, "483c19233287dea68b9745564f557554f9be3abc3b3824dbd88b8b86aca31d39"},
      {116, "82ad73913d082404c39b7c02ef0b8153174980c69c66e6a2977265e241b826ba"},
      {124, "9ba2790f331c3ff9861fe192a9c3589ceb6ecc2aee8cdda0a8196c5dd3f3c057"},
      {140, "93ac93395665b9676512ee1efff1967efce35fbf55258a268bb6638fd1d13554"},
      {156, "f1a893d61b8438fc2a421451bb507e24862ae847a5ba226310aeefb19b06c7ce"},
      {172, "66cd19c8ae98afaf89df7699b232b24a5d6af15de96ed5a5ca8d84e68f2a38bb"},
  };
  for (const auto& [order, digest] : digests) {
    std::string signs;
    for (const float entry : hadamard_matrix(order)) signs += entry > 0 ? '+' : '-';
    EXPECT_EQ(sha256(signs), digest) << order;
  }
}

TEST(Hadamard, IsWhatItsDefinitionSays) {
  ThreadPool pool(2);
  for (const std::size_t n : {1u, 2u, 7u, 12u, 100u, 128u, 172u, 192u, 320u, 576u}) {
    const Hadamard hadamard(n);
    ASSERT_EQ(hadamard.factor(), n == 12 || n == 172 ? n : expected_factor(n));
    const std::vector<double> u = slow_hadamard(n, hadamard.factor());
    const std::vector<float> signs = random_signs(n, "a");
    const std::size_t vectors = 19;

    Matrix rows = random_matrix(vectors, n), original = rows;
    hadamard.rotate_rows(rows, signs, pool);
    Matrix columns(n, vectors);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t l = 0; l < vectors; ++l) columns(i, l) = original(l, i);
    }
    hadamard.rotate_columns(columns, signs, pool);
    for (std::size_t l = 0; l < vectors; ++l) {
      for (std::size_t j = 0; j < n; ++j) {
        double expected = 0;
        for (std::size_t i = 0; i < n; ++i) {
          expected += static_cast<double>(original(l, i) * signs[i]) * u[i * n + j];
        }
        ASSERT_NEAR(rows(l, j), expected, 1e-5) << n;
        ASSERT_NEAR(columns(j, l), expected, 1e-5) << n;
      }
    }
  }
}

class HadamardSize : public testing::TestWithParam<std::size_t> {};

TEST_P(HadamardSize, KeepsNormsAndComesBack) {
  const std::size_t n = GetParam();
  const Hadamard hadamard(n);
  EXPECT_EQ(hadamard.factor(), expected_factor(n));
  const std::vector<float> signs = random_signs(n, "b");
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    ThreadPool pool(2);
    const Matrix original = random_matrix(18, n);
    Matrix w = original;
    hadamard.rotate_rows(w, signs, pool);
    for (std::size_t i = 0; i < w.rows(); ++i) {
      double before = 0, after = 0;
      for (const float x : original.row(i)) before += static_cast<double>(x) * x;
      for (const float x : w.row(i)) after += static_cast<double>(x) * x;
      ASSERT_NEAR(after / before, 1, 1e-5);
    }
    hadamard.unrotate_rows(w, signs, pool);
    for (std::size_t i = 0; i < w.size(); ++i) {
      ASSERT_NEAR(w.data()[i], original.data()[i], 1e-5);
    }

    const Matrix tall = random_matrix(n, 17);
    w = tall;
    hadamard.rotate_columns(w, signs, pool);
    double moved = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      moved += std::abs(static_cast<double>(w.data()[i]) - tall.data()[i]);
    }
    EXPECT_GT(moved, 0.1 * static_cast<double>(w.size()));
    hadamard.unrotate_columns(w, signs, pool);
    for (std::size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(w.data()[i], tall.data()[i], 1e-5);
  }
  set_isa(available_isas().back());
}

INSTANTIATE_TEST_SUITE_P(, HadamardSize,
                         testing::Values(1, 7, 100, 128, 192, 320, 576, 896, 960, 1536, 2048, 2560,
                                         3072, 4096, 4864, 5632, 8192, 8960, 10920, 11008, 13696,
                                         13824, 14336, 17408, 18944));

TEST(Hadamard, RotatesOneVectorAsItRotatesRows) {
  ThreadPool pool(1);
  const CounterRng rng(1, "vector");
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (const std::size_t n : {1u, 7u, 48u, 64u, 192u, 576u, 896u, 1536u, 1664u, 4864u, 13696u}) {
      const Hadamard hadamard(n);
      Matrix rows(1, n);
      std::vector<float> signs(n);
      for (std::size_t i = 0; i < n; ++i) {
        rows(0, i) = static_cast<float>(rng.normal(i));
        signs[i] = rng.bits(n + i) & 1 ? 1.0f : -1.0f;
      }
      std::vector<float> x(rows.data(), rows.data() + n);
      const std::vector<float> factors = hadamard.factors(signs), first = x;
      hadamard.rotate_rows(rows, signs, pool);
      hadamard.rotate(x, factors);
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(x[i], rows(0, i), 2e-5) << n;
      hadamard.unrotate(x, factors);
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(x[i], first[i], 2e-5) << n;
    }
  }
  set_isa(before);
}

}  // namespace
}  // namespace squish::linalg
