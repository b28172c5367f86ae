#include "squish/kernels/half.isa.h"

#include <cstdint>

#include "squish/kernels/row_sums.isa.h"

#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
#include <immintrin.h>
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

typedef std::uint32_t Words __attribute__((vector_size(4 * kLanes)));

template <class Vector>
Vector load(const std::byte* p) {
  Vector v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

Words load_wide(const std::byte* p) {
#if defined(SQUISH_ISA_avx512)
  return reinterpret_cast<Words>(_mm512_cvtepu16_epi32(load<__m256i>(p)));
#elif defined(SQUISH_ISA_avx2)
  return reinterpret_cast<Words>(_mm256_cvtepu16_epi32(load<__m128i>(p)));
#else
  typedef std::uint16_t Halves __attribute__((vector_size(2 * kLanes)));
  return __builtin_convertvector(load<Halves>(p), Words);
#endif
}

struct F32 {
  static constexpr std::size_t kBytes = 4;
  static Floats values(const std::byte* p) { return load<Floats>(p); }
};

struct Bf16 {
  static constexpr std::size_t kBytes = 2;
  static Floats values(const std::byte* p) { return reinterpret_cast<Floats>(load_wide(p) << 16); }
};

struct F16 {
  static constexpr std::size_t kBytes = 2;
  static Floats values(const std::byte* p) {
#if defined(SQUISH_ISA_avx512)
    return _mm512_cvtph_ps(load<__m256i>(p));
#elif defined(SQUISH_ISA_avx2)
    return _mm256_cvtph_ps(load<__m128i>(p));
#else
    const Words h = load_wide(p);
    const Words magnitude = (h & 0x7fff) << 13, sign = (h & 0x8000) << 16;
    // The exponents' biases differ by 112; an infinity or NaN has the largest.
    const Words finite = reinterpret_cast<Words>(reinterpret_cast<Floats>(magnitude) * 0x1p112f);
    const Words special = magnitude | 0x7f800000;
    return reinterpret_cast<Floats>((magnitude < 0x7c00u << 13 ? finite : special) | sign);
#endif
  }
};

template <class Element>
void multiply(const std::byte* values, std::size_t cols, const float* x, std::size_t begin,
              std::size_t end, float* y) {
  constexpr std::size_t kUnroll = 2;  // hides the latency of additions
  for (std::size_t row = begin; row < end; row += kRows) {
    const std::byte* p[kRows];  // the last one over again where there are fewer
    for (std::size_t r = 0; r < kRows; ++r) {
      p[r] = values + (row + r < end ? row + r : end - 1) * cols * Element::kBytes;
    }
    RowVectors sums[kUnroll] = {};
    std::size_t j = 0;
    for (; j + kUnroll * kLanes <= cols; j += kUnroll * kLanes) {
      for (std::size_t u = 0; u < kUnroll; ++u) {
        const std::size_t at = j + u * kLanes;
        const Floats factor = load<Floats>(reinterpret_cast<const std::byte*>(x + at));
        for (std::size_t r = 0; r < kRows; ++r) {
          sums[u].v[r] += Element::values(p[r] + at * Element::kBytes) * factor;
        }
      }
    }
    for (; j < cols; j += kLanes) {
      const Floats factor = load<Floats>(reinterpret_cast<const std::byte*>(x + j));
      const std::size_t n = squish::SQUISH_ISA_NAMESPACE::smaller(cols - j, kLanes);
      for (std::size_t r = 0; r < kRows; ++r) {
        std::byte rest[sizeof(Floats)] = {};
        __builtin_memcpy(rest, p[r] + j * Element::kBytes, n * Element::kBytes);
        sums[0].v[r] += Element::values(rest) * factor;
      }
    }
    for (std::size_t r = 0; r < kRows; ++r) sums[0].v[r] += sums[1].v[r];
    store_totals(sums[0], y + row, end - row);
  }
}

}  // namespace

extern const HalfOps kHalfOps;
const HalfOps kHalfOps = {multiply<F32>, multiply<F16>, multiply<Bf16>};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
