#include "squish/quant/e8p.isa.h"

#include "squish/base/lanes.isa.h"

namespace squish::quant::SQUISH_ISA_NAMESPACE {
namespace {

using namespace squish::SQUISH_ISA_NAMESPACE;

// Vectors are searched side by side, one a lane.
// Coordinate i of lane l = x[8 l + i]; lanes past `count` are zero.
void load_lanes(const float* x, std::size_t count, Floats* lanes) {
  for (std::size_t l = 0; l < kLanes; ++l) {
    for (std::size_t i = 0; i < 8; ++i) lanes[i][l] = l < count ? x[8 * l + i] : 0.0f;
  }
}

// What the halves of the rows add to the scores of best_rows().
struct QuadScores {
  Floats gain[kQuads];   // <|y|, quad> - |quad|^2 / 2
  Floats least[kQuads];  // min |y_i| quad_i
};

void score_quads(const E8pTable& table, const Floats* magnitude, QuadScores& scores) {
  for (int q = 0; q < kQuads; ++q) {
    const float* const quad = table.quads[q];
    Floats least = magnitude[0] * quad[0];
    Floats gain = least - table.quad_half_norm[q];
    for (int i = 1; i < 4; ++i) {
      const Floats product = magnitude[i] * quad[i];
      gain += product;
      least = product < least ? product : least;
    }
    scores.gain[q] = gain;
    scores.least[q] = least;
  }
}

struct Best {
  Floats score;
  Ints index;
};

// The best row of absolute values for every lane of y. The signs are those of y, or, where their
// parity is not the row's, those with the cheapest one flipped. Score: <y, p> - |p|^2 / 2, half of
// what the point p gains over the origin.
void best_rows(const E8pTable& table, const Floats* y, Best& best) {
  Floats magnitude[8], parity = Floats{} + 1;
  for (int i = 0; i < 8; ++i) {
    magnitude[i] = y[i] < 0 ? -y[i] : y[i];
    parity = y[i] < 0 ? -parity : parity;
  }
  QuadScores head, tail;
  score_quads(table, magnitude, head);
  score_quads(table, magnitude + 4, tail);
  best = {Floats{} - 3e38f, Ints{}};
  for (int r = 0; r < 256; ++r) {
    const int h = table.head[r], t = table.tail[r];
    const Floats least = head.least[h] < tail.least[t] ? head.least[h] : tail.least[t];
    const Floats flip = 1 - table.side[r] * parity;  // 0, or 2 where a sign must flip
    const Floats score = head.gain[h] + tail.gain[t] - flip * least;
    const Ints better = score > best.score;
    best.index = better ? Ints{} + r : best.index;
    best.score = better ? score : best.score;
  }
}

// The code of row `r` with the signs that suit y, in the half whose sign bytes have that parity.
std::uint16_t code_of(const E8pTable& table, const Floats* y, std::size_t lane, int r, int parity) {
  int signs = 0, negative = 0, cheapest = 0;
  float least = 3e38f;
  for (int i = 0; i < 8; ++i) {
    const float value = y[i][lane];
    if (value < 0) {
      signs ^= 1 << kPosition[i];
      ++negative;
    }
    const float entry = table.rows[r][i];
    const float product = (value < 0 ? -value : value) * (entry < 0 ? -entry : entry);
    if (product < least) {
      least = product;
      cheapest = i;
    }
  }
  const int odd = table.odd[r];
  if (negative % 2 != odd) signs ^= 1 << kPosition[cheapest];
  if (odd != 0) signs ^= 1 << kPosition[7];  // the stored entry is negative
  return static_cast<std::uint16_t>(r << 8 | (signs ^ parity));
}

void nearest_e8p(const E8pTable& table, const float* x, std::size_t vectors, std::uint16_t* codes) {
  for (std::size_t first = 0; first < vectors; first += kLanes) {
    const std::size_t count = smaller(kLanes, vectors - first);
    Floats above[8] = {}, below[8] = {}, sum = {};
    load_lanes(x + 8 * first, count, above);
    for (int i = 0; i < 8; ++i) {
      sum += above[i];
      below[i] = above[i] + 0.25f;
      above[i] -= 0.25f;
    }
    Best plus, minus;
    best_rows(table, above, plus);
    best_rows(table, below, minus);
    for (std::size_t l = 0; l < count; ++l) {
      // |x -+ 1/4|^2 / 2 differs between the halves by half the sum of the coordinates.
      const bool parity = minus.score[l] - 0.25f * sum[l] > plus.score[l] + 0.25f * sum[l];
      codes[first + l] = parity ? code_of(table, below, l, minus.index[l], 1)
                                : code_of(table, above, l, plus.index[l], 0);
    }
  }
}

void expand_e8p(const E8pTable& table, const std::uint16_t* codes, std::size_t vectors,
                float* out) {
  for (std::size_t v = 0; v < vectors; ++v) {
    const float* const row = table.rows[codes[v] >> 8];
    const float* const sign = table.signs[codes[v] & 255];
    const float shift = table.shift[codes[v] & 255];
#pragma omp simd
    for (std::size_t i = 0; i < 8; ++i) out[8 * v + i] = row[i] * sign[i] + shift;
  }
}

void nearest_point(const Points256& points, const float* x, std::size_t vectors,
                   std::uint8_t* codes) {
  for (std::size_t first = 0; first < vectors; first += kLanes) {
    const std::size_t count = smaller(kLanes, vectors - first);
    Floats y[8] = {}, best = Floats{} - 3e38f;
    Ints index = {};
    load_lanes(x + 8 * first, count, y);
    for (int r = 0; r < 256; ++r) {
      const float* const point = points.point[r];
      Floats score = y[0] * point[0] - points.half_norm[r];
      for (int i = 1; i < 8; ++i) score += y[i] * point[i];
      const Ints better = score > best;
      index = better ? Ints{} + r : index;
      best = better ? score : best;
    }
    for (std::size_t l = 0; l < count; ++l) codes[first + l] = static_cast<std::uint8_t>(index[l]);
  }
}

void nearest_line(const Points256& points, const float* x, std::size_t vectors, std::uint8_t* codes,
                  float* dots) {
  constexpr std::size_t kGroups = 2;  // of lanes, which share the loads of a point
  for (std::size_t first = 0; first < vectors; first += kGroups * kLanes) {
    Floats y[kGroups][8] = {}, best[kGroups] = {};
    Ints index[kGroups] = {};
    for (std::size_t g = 0; g < kGroups; ++g) {
      const std::size_t begin = smaller(first + g * kLanes, vectors);
      load_lanes(x + 8 * begin, smaller(kLanes, vectors - begin), y[g]);
    }
    for (int r = 0; r < 256; ++r) {
      const float* const point = points.point[r];
      Floats even[kGroups], odd[kGroups];  // two short chains instead of a long one
      for (std::size_t g = 0; g < kGroups; ++g) {
        even[g] = y[g][0] * point[0];
        odd[g] = y[g][1] * point[1];
      }
      for (int i = 2; i < 8; i += 2) {
        for (std::size_t g = 0; g < kGroups; ++g) {
          even[g] += y[g][i] * point[i];
          odd[g] += y[g][i + 1] * point[i + 1];
        }
      }
      for (std::size_t g = 0; g < kGroups; ++g) {
        const Floats dot = even[g] + odd[g], score = dot * dot;
        const Ints better = score > best[g];
        index[g] = better ? Ints{} + r : index[g];
        best[g] = better ? score : best[g];
      }
    }
    for (std::size_t v = first; v < smaller(first + kGroups * kLanes, vectors); ++v) {
      const std::size_t g = (v - first) / kLanes, l = (v - first) % kLanes;
      const float* const point = points.point[index[g][l]];
      float dot = 0;
      for (int i = 0; i < 8; ++i) dot += y[g][i][l] * point[i];
      codes[v] = static_cast<std::uint8_t>(index[g][l]);
      dots[v] = dot;
    }
  }
}

void dots(const float* x, const float* q, std::size_t n, float* out) {
  float xq = 0, qq = 0;
#pragma omp simd reduction(+ : xq, qq)
  for (std::size_t i = 0; i < n; ++i) {
    xq += x[i] * q[i];
    qq += q[i] * q[i];
  }
  out[0] = xq;
  out[1] = qq;
}

}  // namespace

extern const E8pOps kE8pOps;
const E8pOps kE8pOps = {nearest_e8p, expand_e8p, nearest_point, nearest_line, dots};

}  // namespace squish::quant::SQUISH_ISA_NAMESPACE
