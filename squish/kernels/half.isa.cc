#include "squish/kernels/half.isa.h"

#include <cstdint>
#include <utility>

#include "squish/base/half.h"
#include "squish/base/lanes.isa.h"
#include "squish/base/rounded.isa.h"

#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
#include <immintrin.h>
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

using squish::SQUISH_ISA_NAMESPACE::Floats;
using squish::SQUISH_ISA_NAMESPACE::kLanes;

/// One for each row.
struct RowVectors {
  Floats v[kRows];
};

// Both make one vector of two: in each 128 bits, what the first's lanes l and l + 2 add up to is
// at 2 l and the second's at 2 l + 1; the first's at l and the second's at l + 2.
template <std::size_t... L>
Floats fold_and_zip(Floats a, Floats b, std::index_sequence<L...> /*lanes*/) {
  return __builtin_shufflevector(a, b, (L / 4 * 4 + L % 4 / 2 + L % 2 * kLanes)...) +
         __builtin_shufflevector(a, b, (L / 4 * 4 + L % 4 / 2 + L % 2 * kLanes + 2)...);
}
template <std::size_t... L>
Floats fold_and_join(Floats a, Floats b, std::index_sequence<L...> /*lanes*/) {
  return __builtin_shufflevector(a, b, (L / 4 * 4 + L % 2 + L % 4 / 2 * kLanes)...) +
         __builtin_shufflevector(a, b, (L / 4 * 4 + L % 2 + L % 4 / 2 * kLanes + 2)...);
}

/// y[0 .. n): the sums over the lanes; n may be more than there are rows.
void store_totals(const RowVectors& sums, float* y, std::size_t n) {
  constexpr std::make_index_sequence<kLanes> lanes;
  const Floats all = fold_and_join(fold_and_zip(sums.v[0], sums.v[1], lanes),
                                   fold_and_zip(sums.v[2], sums.v[3], lanes), lanes);
  typedef float Four __attribute__((vector_size(16), may_alias));
  Four total = reinterpret_cast<const Four*>(&all)[0];
  for (std::size_t q = 1; q < kLanes / 4; ++q) total += reinterpret_cast<const Four*>(&all)[q];
  if (n >= kRows) {
    __builtin_memcpy(y, &total, sizeof(total));
  } else {
    for (std::size_t r = 0; r < n; ++r) y[r] = total[r];
  }
}

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

struct I8 {
  static constexpr std::size_t kBytes = 1;
  static Floats values(const std::byte* p) {
#if defined(SQUISH_ISA_avx512)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load<__m128i>(p)));
#elif defined(SQUISH_ISA_avx2)
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    typedef std::int8_t Codes __attribute__((vector_size(kLanes)));
    return __builtin_convertvector(load<Codes>(p), Floats);
#endif
  }
};

template <class Element>
void multiply(const std::byte* values, std::size_t cols, const float* x, std::size_t begin,
              std::size_t end, float* y) {
  constexpr std::size_t kUnroll = 2;  // hides the latency of additions
  const std::size_t ahead = 2 * kRows * cols * Element::kBytes;
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
      // Rows side by side are no stream that the hardware knows.
      for (std::size_t r = 0; r < kRows; ++r) {
        const auto here = reinterpret_cast<std::uintptr_t>(p[r] + j * Element::kBytes);
        __builtin_prefetch(reinterpret_cast<const void*>(here + ahead));
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

template <class Element>
void combine(const std::byte* values, std::size_t rows, std::size_t cols, const float* weights,
             float* y) {
  constexpr std::size_t kAcross = 4;
  const std::size_t row_bytes = cols * Element::kBytes;
  std::size_t j = 0;
  for (; j + kAcross * kLanes <= cols; j += kAcross * kLanes) {
    Floats sums[kAcross] = {};
    const std::byte* p = values + j * Element::kBytes;
    for (std::size_t i = 0; i < rows; ++i, p += row_bytes) {
      for (std::size_t a = 0; a < kAcross; ++a) {
        sums[a] += Element::values(p + a * kLanes * Element::kBytes) * weights[i];
      }
    }
    __builtin_memcpy(y + j, sums, sizeof(sums));
  }
  for (; j < cols; j += kLanes) {
    const std::size_t n = squish::SQUISH_ISA_NAMESPACE::smaller(cols - j, kLanes);
    Floats sum = {};
    for (std::size_t i = 0; i < rows; ++i) {
      std::byte rest[sizeof(Floats)] = {};
      __builtin_memcpy(rest, values + i * row_bytes + j * Element::kBytes, n * Element::kBytes);
      sum += Element::values(rest) * weights[i];
    }
    __builtin_memcpy(y + j, &sum, n * sizeof(float));
  }
}

void narrow(const float* x, std::size_t n, std::uint16_t* f16) {
  std::size_t i = 0;
#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
  for (; i + 8 <= n; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(f16 + i), halves);
  }
#endif
  for (; i < n; ++i) f16[i] = to_f16(x[i]);
}

template <class Element>
void widen(const std::byte* values, std::size_t n, float* x) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats floats = Element::values(values + i * Element::kBytes);
    __builtin_memcpy(x + i, &floats, sizeof(floats));
  }
  if (i == n) return;
  std::byte rest[sizeof(Floats)] = {};
  __builtin_memcpy(rest, values + i * Element::kBytes, (n - i) * Element::kBytes);
  const Floats floats = Element::values(rest);
  __builtin_memcpy(x + i, &floats, (n - i) * sizeof(float));
}

}  // namespace

extern const HalfOps kHalfOps;
const HalfOps kHalfOps = {multiply<F32>, multiply<F16>, multiply<Bf16>, multiply<I8>,
                          combine<F32>,  combine<F16>,  combine<I8>,    narrow,
                          widen<F32>,    widen<F16>,    widen<Bf16>,    widen<I8>};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
