#include "squish/quant/e8p.isa.h"

namespace squish::quant::SQUISH_ISA_NAMESPACE {
namespace {

constexpr std::size_t kLanes = 16;  // vectors that are searched side by side

// Coordinate i of lane l = x[8 l + i]; lanes past `count` are zero.
void load_lanes(const float* x, std::size_t count, float (*lanes)[kLanes]) {
  for (std::size_t l = 0; l < kLanes; ++l) {
    for (std::size_t i = 0; i < 8; ++i) lanes[i][l] = l < count ? x[8 * l + i] : 0.0f;
  }
}

std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

struct Best {
  alignas(64) float score[kLanes];
  alignas(64) int index[kLanes];
};

// The best row of |values| for every lane of y, whose entries may take any signs with the parity
// that the row asks for: signs as in y, or, where their parity is wrong, with the cheapest one
// flipped. Score: <y, p> - |p|^2 / 2, half of what p gains over the origin.
void best_rows(const E8pTable& table, const float (*y)[kLanes], Best& best) {
  alignas(64) float magnitude[8][kLanes], penalty[2][kLanes];
  for (std::size_t l = 0; l < kLanes; ++l) {
    int negative = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      magnitude[i][l] = y[i][l] < 0 ? -y[i][l] : y[i][l];
      negative += y[i][l] < 0 ? 1 : 0;
    }
    penalty[0][l] = negative % 2 == 0 ? 0.0f : 2.0f;
    penalty[1][l] = 2.0f - penalty[0][l];
    best.score[l] = -3e38f;
    best.index[l] = 0;
  }
  for (int r = 0; r < 256; ++r) {
    float row[8];
    for (std::size_t i = 0; i < 8; ++i) row[i] = table.rows[r][i];
    row[7] = row[7] < 0 ? -row[7] : row[7];
    const float half_norm = table.half_norm[r];
    const float* const flip = penalty[table.odd[r]];
#pragma omp simd
    for (std::size_t l = 0; l < kLanes; ++l) {
      float sum = magnitude[0][l] * row[0], least = sum;
      for (std::size_t i = 1; i < 8; ++i) {
        const float product = magnitude[i][l] * row[i];
        sum += product;
        least = product < least ? product : least;
      }
      const float score = sum - half_norm - flip[l] * least;
      best.index[l] = score > best.score[l] ? r : best.index[l];
      best.score[l] = score > best.score[l] ? score : best.score[l];
    }
  }
}

// The code of row `r` with the signs that suit y, in the half whose sign bytes have that parity.
std::uint16_t code_of(const E8pTable& table, const float (*y)[kLanes], std::size_t lane, int r,
                      int parity) {
  constexpr int kPosition[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // bit of the sign byte for a coordinate
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
    alignas(64) float lanes[8][kLanes], above[8][kLanes], below[8][kLanes], sum[kLanes] = {};
    load_lanes(x + 8 * first, count, lanes);
    for (std::size_t i = 0; i < 8; ++i) {
#pragma omp simd
      for (std::size_t l = 0; l < kLanes; ++l) {
        above[i][l] = lanes[i][l] - 0.25f;
        below[i][l] = lanes[i][l] + 0.25f;
        sum[l] += lanes[i][l];
      }
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
    alignas(64) float y[8][kLanes];
    load_lanes(x + 8 * first, count, y);
    Best best;
    for (std::size_t l = 0; l < kLanes; ++l) {
      best.score[l] = -3e38f;
      best.index[l] = 0;
    }
    for (int r = 0; r < 256; ++r) {
      const float* const point = points.point[r];
      const float half_norm = points.half_norm[r];
#pragma omp simd
      for (std::size_t l = 0; l < kLanes; ++l) {
        float score = -half_norm;
        for (std::size_t i = 0; i < 8; ++i) score += point[i] * y[i][l];
        best.index[l] = score > best.score[l] ? r : best.index[l];
        best.score[l] = score > best.score[l] ? score : best.score[l];
      }
    }
    for (std::size_t l = 0; l < count; ++l) {
      codes[first + l] = static_cast<std::uint8_t>(best.index[l]);
    }
  }
}

void nearest_line(const Points256& points, const float* x, std::size_t vectors, std::uint8_t* codes,
                  float* dots) {
  for (std::size_t first = 0; first < vectors; first += kLanes) {
    const std::size_t count = smaller(kLanes, vectors - first);
    alignas(64) float y[8][kLanes], dot[kLanes] = {};
    load_lanes(x + 8 * first, count, y);
    Best best;
    for (std::size_t l = 0; l < kLanes; ++l) {
      best.score[l] = -1.0f;
      best.index[l] = 0;
    }
    for (int r = 0; r < 256; ++r) {
      const float* const point = points.point[r];
#pragma omp simd
      for (std::size_t l = 0; l < kLanes; ++l) {
        float sum = 0;
        for (std::size_t i = 0; i < 8; ++i) sum += point[i] * y[i][l];
        const float score = sum < 0 ? -sum : sum;
        dot[l] = score > best.score[l] ? sum : dot[l];
        best.index[l] = score > best.score[l] ? r : best.index[l];
        best.score[l] = score > best.score[l] ? score : best.score[l];
      }
    }
    for (std::size_t l = 0; l < count; ++l) {
      codes[first + l] = static_cast<std::uint8_t>(best.index[l]);
      dots[first + l] = dot[l];
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
