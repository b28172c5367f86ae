#include "squish/linalg/hadamard.isa.h"

#include <cstdint>

namespace squish::linalg::SQUISH_ISA_NAMESPACE {
namespace {

constexpr std::size_t kLanes = kStripLanes;

// Two levels of the transform in one pass over memory: distances h and 2h.
void radix4(float* strip, std::size_t length, std::size_t h) {
  const std::size_t step = h * kLanes;
  for (std::size_t first = 0; first < length * kLanes; first += 4 * step) {
    float* const a = strip + first;
    float* const b = a + step;
    float* const c = b + step;
    float* const d = c + step;
#pragma omp simd
    for (std::size_t i = 0; i < step; ++i) {
      const float ab = a[i] + b[i], a_b = a[i] - b[i];
      const float cd = c[i] + d[i], c_d = c[i] - d[i];
      a[i] = ab + cd;
      b[i] = a_b + c_d;
      c[i] = ab - cd;
      d[i] = a_b - c_d;
    }
  }
}

void radix2(float* strip, std::size_t length) {
  const std::size_t step = length / 2 * kLanes;
  float* const a = strip;
  float* const b = strip + step;
#pragma omp simd
  for (std::size_t i = 0; i < step; ++i) {
    const float sum = a[i] + b[i], difference = a[i] - b[i];
    a[i] = sum;
    b[i] = difference;
  }
}

void butterflies(float* strip, std::size_t length) {
  std::size_t h = 1;
  for (; 4 * h <= length; h *= 4) radix4(strip, length, h);
  if (h < length) radix2(strip, length);
}

typedef float Run __attribute__((vector_size(4 * kLanes), may_alias));
#if defined(SQUISH_ISA_avx512)
constexpr std::size_t kMixedRows = 12;
#else
constexpr std::size_t kMixedRows = 4;
#endif
typedef std::int32_t Index __attribute__((vector_size(4 * kLanes)));

// Lanes whose number has bit H become the difference to their partner, the others the sum.
template <int H>
void level(Run& v) {
  constexpr Index kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Run partner =
      __builtin_shufflevector(v, v, 0 ^ H, 1 ^ H, 2 ^ H, 3 ^ H, 4 ^ H, 5 ^ H, 6 ^ H, 7 ^ H, 8 ^ H,
                              9 ^ H, 10 ^ H, 11 ^ H, 12 ^ H, 13 ^ H, 14 ^ H, 15 ^ H);
  const Run signs = (kLane & H) != 0 ? Run{} - 1 : Run{} + 1;
  v = signs * v + partner;
}

void butterflies_within(float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; i += kLanes) {
    Run* const run = reinterpret_cast<Run*>(x + i);
    level<1>(*run);
    level<2>(*run);
    level<4>(*run);
    level<8>(*run);
  }
}

/// Rows [r, r + Rows): sums side by side, since one waits for itself.
template <std::size_t Rows>
void mix_rows(const float* matrix, std::size_t order, const float* in, std::size_t run,
              std::size_t r, float* out) {
  const float* const m = matrix + r * order;
  for (std::size_t j = 0; j < run; ++j) {
    Run sum[Rows] = {};
    for (std::size_t k = 0; k < order; ++k) {
      const Run x = *reinterpret_cast<const Run*>(in + (k * run + j) * kLanes);
#pragma GCC unroll 12
      for (std::size_t i = 0; i < Rows; ++i) sum[i] += m[i * order + k] * x;
    }
#pragma GCC unroll 12
    for (std::size_t i = 0; i < Rows; ++i) {
      *reinterpret_cast<Run*>(out + ((r + i) * run + j) * kLanes) = sum[i];
    }
  }
}

void mix(const float* matrix, std::size_t order, const float* in, std::size_t run, float* out) {
  std::size_t r = 0;
  for (; r + kMixedRows <= order; r += kMixedRows) {
    mix_rows<kMixedRows>(matrix, order, in, run, r, out);
  }
  for (; r < order; r += 4) mix_rows<4>(matrix, order, in, run, r, out);
}

// Both transposes go by squares, so that each cache line is touched once: the rows of a matrix
// with a power-of-two stride share one set of the first-level cache.
void load_rows(const float* rows, std::size_t stride, std::size_t n, std::size_t lanes,
               const float* factors, float* strip) {
  for (std::size_t first = 0; first < n; first += kLanes) {
    const std::size_t end = first + kLanes < n ? first + kLanes : n;
    for (std::size_t l = 0; l < lanes; ++l) {
      for (std::size_t i = first; i < end; ++i) {
        strip[i * kLanes + l] = factors[i] * rows[l * stride + i];
      }
    }
  }
}

void store_rows(const float* strip, std::size_t n, std::size_t lanes, const float* factors,
                float* rows, std::size_t stride) {
  for (std::size_t first = 0; first < n; first += kLanes) {
    const std::size_t end = first + kLanes < n ? first + kLanes : n;
    for (std::size_t l = 0; l < lanes; ++l) {
      for (std::size_t i = first; i < end; ++i) {
        rows[l * stride + i] = factors[i] * strip[i * kLanes + l];
      }
    }
  }
}

}  // namespace

extern const HadamardOps kHadamardOps;
const HadamardOps kHadamardOps = {butterflies, butterflies_within, mix, load_rows, store_rows};

}  // namespace squish::linalg::SQUISH_ISA_NAMESPACE
