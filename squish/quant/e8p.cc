#include "squish/quant/e8p.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "squish/base/isa.h"

namespace squish::quant {

SQUISH_DECLARE_TABLES(E8pOps, kE8pOps);

const E8pOps& e8p_ops() { return choose(scalar::kE8pOps, avx2::kE8pOps, avx512::kE8pOps); }

namespace {

/// A vector times 2, in whole numbers.
using Doubled = std::array<int, 8>;

/// Appends all vectors of coordinates low, low + 2, ..., high (doubled) and of squared norm at most
/// `norm` (times 4), in lexicographic order.
void enumerate(int low, int high, int norm, std::size_t coordinate, Doubled& v,
               std::vector<Doubled>& out) {
  if (coordinate == v.size()) {
    out.push_back(v);
    return;
  }
  for (int x = low; x <= high; x += 2) {
    if (x * x > norm) continue;
    v[coordinate] = x;
    enumerate(low, high, norm - x * x, coordinate + 1, v, out);
  }
}

int sum(const Doubled& v) {
  int total = 0;
  for (const int x : v) total += x;
  return total;
}

int dot(const Doubled& a, const Doubled& b) {
  int total = 0;
  for (std::size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
  return total;
}

/// The points of E8 of squared norm `low` to `high`, integers first.
std::vector<Doubled> e8_points(int low, int high) {
  std::vector<Doubled> all;
  Doubled v{};
  enumerate(-4, 4, 4 * high, 0, v, all);
  enumerate(-5, 5, 4 * high, 0, v, all);
  std::erase_if(all, [&](const Doubled& p) { return sum(p) % 4 != 0 || dot(p, p) < 4 * low; });
  return all;
}

/// One vector of each pair +-v, the one whose first coordinate other than zero is positive.
std::vector<Doubled> lines_of(std::vector<Doubled> points) {
  std::erase_if(points, [](const Doubled& p) {
    return *std::find_if(p.begin(), p.end(), [](int x) { return x != 0; }) < 0;
  });
  std::sort(points.begin(), points.end());
  return points;
}

Points256 make_points(const std::vector<Doubled>& doubled, bool normalise) {
  assert(doubled.size() == 256);
  Points256 points{};
  for (std::size_t p = 0; p < doubled.size(); ++p) {
    const double norm = dot(doubled[p], doubled[p]);
    const double scale = normalise ? 1 / std::sqrt(norm) : 0.5;
    for (std::size_t i = 0; i < 8; ++i) {
      points.point[p][i] = static_cast<float>(scale * doubled[p][i]);
    }
    points.half_norm[p] = static_cast<float>(0.5 * scale * scale * norm);
  }
  return points;
}

E8pTable make_e8p() {
  std::vector<Doubled> rows;
  Doubled v{};
  enumerate(1, 5, 40, 0, v, rows);
  // The padding: 3/2 everywhere but at these three coordinates, in the reference's order.
  for (const std::string_view halves :
       {"123", "023", "013", "012", "367", "357", "347", "356", "346", "345",
        "267", "257", "247", "256", "246", "245", "167", "157", "147", "156",
        "146", "045", "067", "057", "047", "056", "046", "014", "237"}) {
    v.fill(3);
    for (const char digit : halves) v[static_cast<std::size_t>(digit - '0')] = 1;
    rows.push_back(v);
  }
  assert(rows.size() == 256);

  E8pTable table{};
  for (std::size_t a = 0; a < rows.size(); ++a) {
    table.odd[a] = sum(rows[a]) % 4 != 0;
    table.side[a] = table.odd[a] != 0 ? -1.0f : 1.0f;
    for (std::size_t i = 0; i < 8; ++i) table.rows[a][i] = static_cast<float>(rows[a][i]) / 2;
    if (table.odd[a] != 0) table.rows[a][7] *= -1;
  }
  std::vector<std::array<int, 4>> quads;
  const auto quad_index = [&](const int* quad) {
    const std::array<int, 4> q = {quad[0], quad[1], quad[2], quad[3]};
    const auto at = std::find(quads.begin(), quads.end(), q);
    const auto index = static_cast<std::uint8_t>(at - quads.begin());
    if (at == quads.end()) quads.push_back(q);
    return index;
  };
  for (std::size_t a = 0; a < rows.size(); ++a) {
    table.head[a] = quad_index(rows[a].data());
    table.tail[a] = quad_index(rows[a].data() + 4);
  }
  assert(quads.size() == kQuads);
  for (std::size_t q = 0; q < quads.size(); ++q) {
    for (std::size_t i = 0; i < 4; ++i) {
      const float entry = static_cast<float>(quads[q][i]) / 2;
      table.quads[q][i] = entry;
      table.quad_half_norm[q] += entry * entry / 2;
    }
  }
  for (unsigned s = 0; s < 256; ++s) {
    const unsigned parity = static_cast<unsigned>(std::popcount(s)) % 2, even = s ^ parity;
    table.shift[s] = parity != 0 ? -0.25f : 0.25f;
    for (std::size_t i = 0; i < 8; ++i) {
      table.signs[s][i] = (even >> kPosition[i] & 1) != 0 ? -1.0f : 1.0f;
    }
  }
  return table;
}

Points256 make_e81b() {
  std::vector<Doubled> points = e8_points(0, 2);
  for (const int entry : {4, -4}) {
    for (std::size_t i = 0; i < 8 && points.size() < 256; ++i) {
      points.emplace_back()[i] = entry;
    }
  }
  return make_points(points, false);
}

Points256 make_lines() {
  std::vector<Doubled> lines = lines_of(e8_points(2, 2));
  const std::vector<Doubled> shell = lines_of(e8_points(4, 4));
  // Every line of the shell lies alike to the first 120, so that only the shell matters.
  std::vector<std::int64_t> crowding(shell.size());
  for (std::size_t next = 0; lines.size() < 256;) {
    const Doubled& chosen = shell[next];
    lines.push_back(chosen);
    for (std::size_t i = 0; i < shell.size(); ++i) {
      const std::int64_t square = std::int64_t{dot(shell[i], chosen)} * dot(shell[i], chosen);
      crowding[i] += square * square;
    }
    crowding[next] = std::int64_t{1} << 60;
    next = static_cast<std::size_t>(std::min_element(crowding.begin(), crowding.end()) -
                                    crowding.begin());
  }
  return make_points(lines, true);
}

}  // namespace

const E8pTable& e8p_table() {
  static const E8pTable table = make_e8p();
  return table;
}

const Points256& e81b_points() {
  static const Points256 points = make_e81b();
  return points;
}

const Points256& e8_lines() {
  static const Points256 points = make_lines();
  return points;
}

}  // namespace squish::quant
