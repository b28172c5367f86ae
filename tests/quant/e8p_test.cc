#include "squish/quant/e8p.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "squish/base/isa.h"
#include "squish/base/random.h"

namespace squish::quant {
namespace {

using Vector = std::array<float, 8>;

Vector e8p_point(std::uint16_t code) {
  Vector point{};
  e8p_ops().expand_e8p(e8p_table(), &code, 1, point.data());
  return point;
}

const std::vector<Vector>& all_e8p_points() {
  static const std::vector<Vector> points = [] {
    std::vector<Vector> all;
    for (unsigned code = 0; code < 65536; ++code) {
      all.push_back(e8p_point(static_cast<std::uint16_t>(code)));
    }
    return all;
  }();
  return points;
}

double squared_distance(const float* a, const float* b) {
  double sum = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  }
  return sum;
}

/// Gaussian vectors of several sizes, inside and far outside the codebooks, and some that lie
/// exactly between points.
std::vector<float> test_vectors(std::size_t count) {
  const CounterRng rng(5, "vectors");
  std::vector<float> x(8 * count);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float size[] = {1.0f, 0.3f, 2.5f, 20.0f, 0.0f};
    x[i] = size[i / 8 % 5] * static_cast<float>(rng.normal(i));
    if (i / 8 % 7 == 6) x[i] = std::round(2 * x[i]) / 2;
  }
  return x;
}

class E8pOnEachIsa : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override { set_isa(GetParam()); }
  void TearDown() override { set_isa(available_isas().back()); }
};

TEST_P(E8pOnEachIsa, HasTheReferencesNumbering) {
  const std::vector<std::pair<std::uint16_t, std::array<int, 8>>> golden = {
      // methods.md 13.5
      {0x0000, {3, 3, 3, 3, 3, 3, 3, 3}},       {0x0001, {1, 1, 1, 1, 1, 1, 1, 1}},
      {0x0002, {-3, 1, -3, 1, 1, 1, 1, 1}},     {0x0003, {-1, 3, -1, 3, 3, 3, 3, 3}},
      {0x0100, {3, 3, 3, 3, 3, 3, 3, -5}},      {0x01ff, {-1, -1, -1, -1, -1, -1, -1, 7}},
      {0x1234, {-3, -3, 1, -3, -7, 1, 1, 5}},   {0xe3a5, {-5, 3, 3, -1, -5, 7, 7, 7}},
      {0xffff, {-5, -5, -1, -1, -5, -5, -5, 3}}};
  for (const auto& [code, quarters] : golden) {
    const Vector point = e8p_point(code);
    for (std::size_t i = 0; i < 8; ++i) {
      EXPECT_EQ(4 * point[i], static_cast<float>(quarters[i])) << std::hex << code << " " << i;
    }
  }
}

TEST_P(E8pOnEachIsa, FindsTheNearestPoint) {
  const std::size_t count = 150;  // not a multiple of the lanes
  const std::vector<float> x = test_vectors(count);
  std::vector<std::uint16_t> codes(count);
  e8p_ops().nearest_e8p(e8p_table(), x.data(), count, codes.data());
  for (std::size_t v = 0; v < count; ++v) {
    double best = 1e30;
    for (const Vector& point : all_e8p_points()) {
      best = std::min(best, squared_distance(&x[8 * v], point.data()));
    }
    const double found = squared_distance(&x[8 * v], e8p_point(codes[v]).data());
    EXPECT_NEAR(found, best, 1e-5 * (1 + best)) << v;
  }
}

TEST_P(E8pOnEachIsa, FindsPointsThemselves) {
  std::vector<std::uint16_t> codes(65536);
  e8p_ops().nearest_e8p(e8p_table(), all_e8p_points()[0].data(), codes.size(), codes.data());
  for (unsigned code = 0; code < 65536; ++code) ASSERT_EQ(codes[code], code);
}

TEST_P(E8pOnEachIsa, FindsTheNearestOf256) {
  const std::size_t count = 1003;
  const std::vector<float> x = test_vectors(count);
  std::vector<std::uint8_t> codes(count);
  e8p_ops().nearest_point(e81b_points(), x.data(), count, codes.data());
  for (std::size_t v = 0; v < count; ++v) {
    double best = 1e30;
    for (const auto& point : e81b_points().point) {
      best = std::min(best, squared_distance(&x[8 * v], point));
    }
    EXPECT_NEAR(squared_distance(&x[8 * v], e81b_points().point[codes[v]]), best,
                1e-5 * (1 + best));
  }
}

TEST_P(E8pOnEachIsa, FindsTheNearestLine) {
  const std::size_t count = 1003;
  const std::vector<float> x = test_vectors(count);
  std::vector<std::uint8_t> codes(count);
  std::vector<float> dots(count);
  e8p_ops().nearest_line(e8_lines(), x.data(), count, codes.data(), dots.data());
  const auto dot = [&](std::size_t v, std::size_t line) {
    double sum = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      sum += static_cast<double>(x[8 * v + i]) * e8_lines().point[line][i];
    }
    return sum;
  };
  for (std::size_t v = 0; v < count; ++v) {
    double best = 0;
    for (std::size_t line = 0; line < 256; ++line) best = std::max(best, std::abs(dot(v, line)));
    EXPECT_NEAR(std::abs(dots[v]), best, 1e-5 * (1 + best));
    EXPECT_NEAR(dots[v], dot(v, codes[v]), 1e-5 * (1 + best));
  }
}

INSTANTIATE_TEST_SUITE_P(, E8pOnEachIsa, testing::ValuesIn(available_isas()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(E8p, RowsAreTheShellsInOrder) {
  const E8pTable& table = e8p_table();
  const auto row = [&](std::size_t a) {
    Vector r{};
    for (std::size_t i = 0; i < 8; ++i) r[i] = std::abs(table.rows[a][i]);
    return r;
  };
  EXPECT_EQ(row(1), (Vector{.5, .5, .5, .5, .5, .5, .5, 1.5}));  // methods.md 13.5
  EXPECT_EQ(row(2), (Vector{.5, .5, .5, .5, .5, .5, .5, 2.5}));
  EXPECT_EQ(row(8), (Vector{.5, .5, .5, .5, .5, 1.5, .5, .5}));
  EXPECT_EQ(row(9), (Vector{.5, .5, .5, .5, .5, 1.5, .5, 1.5}));
  EXPECT_EQ(row(36), (Vector{.5, .5, .5, 1.5, .5, .5, 1.5, 1.5}));
  EXPECT_EQ(row(226), (Vector{2.5, 1.5, .5, .5, .5, .5, .5, .5}));
  EXPECT_EQ(row(227), (Vector{1.5, .5, .5, .5, 1.5, 1.5, 1.5, 1.5}));
  EXPECT_EQ(row(255), (Vector{1.5, 1.5, .5, .5, 1.5, 1.5, 1.5, .5}));
  int odd = 0;
  std::array<int, 13> of_norm{};
  const Vector origin{};
  for (std::size_t a = 0; a < 256; ++a) {
    odd += table.odd[a];
    ++of_norm[static_cast<std::size_t>(squared_distance(row(a).data(), origin.data()))];
    EXPECT_TRUE(a == 0 || a >= 227 || row(a - 1) < row(a)) << a;
  }
  EXPECT_EQ(odd, 149);
  EXPECT_EQ(of_norm, (std::array<int, 13>{0, 0, 1, 0, 8, 0, 28, 0, 64, 0, 126, 0, 29}));
}

TEST(E8p, PointsAreDistinctAndOnTheShiftedLattice) {
  std::set<Vector> distinct;
  for (unsigned code = 0; code < 65536; ++code) {
    Vector point = all_e8p_points()[code];
    distinct.insert(point);
    const float shift = __builtin_parity(code & 255) != 0 ? -0.25f : 0.25f;
    float sum = 0;
    for (float& x : point) {
      x -= shift;
      EXPECT_EQ(std::abs(x - std::floor(x)), 0.5f);
      sum += x;
    }
    ASSERT_EQ(std::fmod(sum, 2.0f), 0.0f) << code;
  }
  EXPECT_EQ(distinct.size(), 65536u);
}

TEST(E81b, HoldsTheFirstShellsInOrder) {
  const Points256& table = e81b_points();
  std::array<int, 5> of_norm{};
  std::set<Vector> distinct;
  const Vector origin{};
  for (std::size_t p = 0; p < 256; ++p) {
    const double norm = squared_distance(table.point[p], origin.data());
    EXPECT_EQ(table.half_norm[p], norm / 2);
    ++of_norm[static_cast<std::size_t>(norm)];
    Vector v{};
    std::copy_n(table.point[p], 8, v.begin());
    distinct.insert(v);
  }
  EXPECT_EQ(distinct.size(), 256u);
  EXPECT_EQ(of_norm, (std::array<int, 5>{1, 0, 240, 0, 15}));
  const auto is = [&](std::size_t p, const Vector& v) {
    return std::equal(v.begin(), v.end(), table.point[p]);
  };
  EXPECT_TRUE(is(0, {-1, -1}));
  EXPECT_TRUE(is(56, {}));  // between the 56 roots before it and the 56 after
  EXPECT_TRUE(is(112, {1, 1}));
  EXPECT_TRUE(is(113, {-.5, -.5, -.5, -.5, -.5, -.5, -.5, -.5}));
  EXPECT_TRUE(is(240, {.5, .5, .5, .5, .5, .5, .5, .5}));
  EXPECT_TRUE(is(241, {2}));
  EXPECT_TRUE(is(249, {-2}));
  EXPECT_TRUE(is(255, {0, 0, 0, 0, 0, 0, -2, 0}));
}

TEST(E8Lines, AreDistinctUnitVectorsOfTheFirstTwoShells) {
  const Points256& table = e8_lines();
  double closest = 0;
  for (std::size_t a = 0; a < 256; ++a) {
    // Roots have squared norm 2, the others 4: scaled back they have half-integer coordinates.
    const float norm = a < 120 ? std::sqrt(2.0f) : 2.0f;
    float squares = 0;
    for (const float x : table.point[a]) {
      squares += x * x;
      EXPECT_NEAR(2 * norm * x, std::round(2 * norm * x), 1e-6) << a;
    }
    EXPECT_NEAR(squares, 1, 1e-6) << a;
    for (std::size_t b = 0; b < a; ++b) {
      double cosine = 0;
      for (std::size_t i = 0; i < 8; ++i) {
        cosine += static_cast<double>(table.point[a][i]) * table.point[b][i];
      }
      closest = std::max(closest, std::abs(cosine));
    }
  }
  EXPECT_NEAR(closest, 0.75, 1e-6);
}

}  // namespace
}  // namespace squish::quant
