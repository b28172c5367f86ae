#include "squish/kernels/int.isa.h"

#include "squish/base/half.h"
#include "squish/kernels/row_sums.isa.h"

#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
#include <immintrin.h>
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

using squish::SQUISH_ISA_NAMESPACE::smaller;

template <std::size_t Apart>
void take_apart(const std::int8_t* x, std::size_t blocks, std::int8_t* ordered) {
  constexpr std::size_t run = kBlock / Apart;
  for (std::size_t b = 0; b < blocks; ++b, x += kBlock, ordered += kBlock) {
    for (std::size_t j = 0; j < run; ++j) {
      for (std::size_t k = 0; k < Apart; ++k) ordered[k * run + j] = x[j * Apart + k];
    }
  }
}

void order(unsigned bits, const std::int8_t* x, std::size_t blocks, std::int8_t* ordered) {
  if (bits == 2) {
    take_apart<4>(x, blocks, ordered);
  } else if (bits == 4) {
    take_apart<2>(x, blocks, ordered);
  } else {
    take_apart<1>(x, blocks, ordered);
  }
}

/// Whether codes are multiplied by what 8 bits leave of the input.
template <int Bits>
constexpr bool kRest = Bits > kCoarseBits;

float load_value(const std::uint8_t* values, std::size_t i, bool half) {
  if (half) return from_f16(reinterpret_cast<const std::uint16_t*>(values)[i]);
  return reinterpret_cast<const float*>(values)[i];
}

/// 64 codes; `p` has Bits * 8 bytes.
template <int Bits>
void unpack_into(const std::uint8_t* p, std::uint8_t* codes) {
  constexpr int kMask = (1 << Bits) - 1;
  if constexpr (8 % Bits == 0) {
    constexpr int kEach = 8 / Bits;
    for (int i = 0; i < 8 * Bits; ++i) {
      for (int k = 0; k < kEach; ++k) {
        codes[i * kEach + k] = static_cast<std::uint8_t>(p[i] >> (Bits * k) & kMask);
      }
    }
  } else {
    for (int i = 0; i < 8; ++i) {
      std::uint64_t eight = 0;
      for (int k = 0; k < Bits; ++k) eight |= std::uint64_t{p[i * Bits + k]} << (8 * k);
      for (int k = 0; k < 8; ++k) {
        codes[8 * i + k] = static_cast<std::uint8_t>(eight >> (Bits * k) & kMask);
      }
    }
  }
}

/// The codes of block b of a row; those behind its last are 0.
template <int Bits>
void unpack_block(const IntMatrix& m, const std::uint8_t* row, std::size_t b, std::uint8_t* codes) {
  const std::size_t at = b * 8 * Bits;
  if (at + 8 * Bits <= m.row_bytes) return unpack_into<Bits>(row + at, codes);
  std::uint8_t rest[8 * Bits] = {};
  for (std::size_t i = at; i < m.row_bytes; ++i) rest[i - at] = row[i];
  unpack_into<Bits>(rest, codes);
}

template <int Bits>
void decode(const IntMatrix& m, float low, std::size_t begin, std::size_t end, float* rows) {
  for (std::size_t row = begin; row < end; ++row, rows += m.cols) {
    const std::uint8_t* const bytes = m.codes + row * m.row_bytes;
    std::size_t g = row * m.groups, left = 0;  // of the group's columns
    float scale = 0, offset = 0;
    for (std::size_t b = 0; b < m.blocks; ++b) {
      std::uint8_t codes[kBlock];
      unpack_block<Bits>(m, bytes, b, codes);
      const std::size_t first = b * kBlock, n = smaller(kBlock, m.cols - first);
      for (std::size_t j = 0; j < n;) {
        if (left == 0) {
          scale = load_value(m.scale, g, m.half);
          offset = m.zero == nullptr ? low * scale : load_value(m.zero, g, m.half);
          left = m.group;
          ++g;
        }
        const std::size_t stop = smaller(n, j + left);
        left -= stop - j;
        for (; j < stop; ++j) {
          rows[first + j] = scale * static_cast<float>(static_cast<int>(codes[j])) + offset;
        }
      }
    }
  }
}

template <int Bits>
void multiply_any(const IntMatrix& m, const IntInput& in, std::size_t begin, std::size_t end,
                  float* scratch, std::size_t /*stride*/, float* y) {
  for (std::size_t row = begin; row < end; ++row) {
    const std::uint8_t* const bytes = m.codes + row * m.row_bytes;
    float total = 0;
    for (std::size_t g = 0; g < m.groups; ++g) {
      scratch[g] = load_value(m.scale, row * m.groups + g, m.half);
      const float zero =
          m.zero == nullptr ? scratch[g] : load_value(m.zero, row * m.groups + g, m.half);
      total += zero * in.sum[g];
    }
    std::size_t g = 0, group_end = m.group;
    for (std::size_t b = 0; b < m.blocks; ++b) {
      std::uint8_t codes[kBlock];
      const std::size_t first = b * kBlock;
      unpack_block<Bits>(m, bytes, b, codes);
      const std::size_t block_end = first + kBlock < m.cols ? first + kBlock : m.cols;
      for (std::size_t j = first; j < block_end;) {
        if (j == group_end) {
          ++g;
          group_end += m.group;
        }
        const std::size_t piece_end = group_end < block_end ? group_end : block_end;
        std::int32_t sum = 0;
        for (; j < piece_end; ++j) {
          sum +=
              codes[j - first] * (kRest<Bits> ? in.x[j] * (1 << kRestBits) + in.rest[j] : in.x[j]);
        }
        total += scratch[g] * in.scale[b] * static_cast<float>(sum);
      }
    }
    y[row] = total;
  }
}

#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)

#if defined(SQUISH_ISA_avx512)
#define SQUISH_VECTOR(operation) _mm512_##operation
#define SQUISH_BITS(operation) _mm512_##operation##_si512
typedef __m512i Vector;
constexpr bool kMaskedHalves = true;  // loads of 16 bits

Vector load(const void* p) { return _mm512_loadu_si512(p); }
Floats permute(Floats v, Vector lanes) { return _mm512_permutexvar_ps(lanes, v); }
Vector load_lanes(const std::uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

/// Which lanes hold one of n values.
typedef __mmask16 Mask;
Mask first_lanes(std::size_t n) { return static_cast<Mask>(n < kLanes ? (1 << n) - 1 : 0xffff); }

Floats load_floats(const float* p, Mask lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
Floats load_halves(const std::uint16_t* p, Mask lanes) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, p));
}

#else
#define SQUISH_VECTOR(operation) _mm256_##operation
#define SQUISH_BITS(operation) _mm256_##operation##_si256
typedef __m256i Vector;
constexpr bool kMaskedHalves = false;

Vector load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
Floats permute(Floats v, Vector lanes) { return _mm256_permutevar8x32_ps(v, lanes); }
Vector load_lanes(const std::uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

typedef Vector Mask;
Mask first_lanes(std::size_t n) {
  const Vector count = _mm256_set1_epi32(static_cast<int>(n < kLanes ? n : kLanes));
  return _mm256_cmpgt_epi32(count, _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}

Floats load_floats(const float* p, Mask lanes) { return _mm256_maskload_ps(p, lanes); }
/// Reads a whole vector.
Floats load_halves(const std::uint16_t* p, Mask lanes) {
  const Floats v = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_and_ps(v, _mm256_castsi256_ps(lanes));  // what follows need not be a number
}

#endif

constexpr std::size_t kVectors = kBlock / sizeof(Vector);

/// 64 codes, a byte each, in the order of IntOps::order; each over LaneUnits::unit.
struct Codes {
  Vector v[kVectors];
};

/// Codes of 2 and 4 bits are cut out of a byte where they lie rather than shifted down; that is
/// made up for once a row.
template <int Bits>
struct LaneUnits {
  /// Bytes of a vector that have their codes in the same bits.
  static constexpr int kRun = Bits == 2 ? 16 : Bits == 4 && kLanes == 16 ? 32 : sizeof(Vector);
  alignas(64) std::uint8_t mask[sizeof(Vector)] = {};
  alignas(64) float unit[kLanes] = {};

  constexpr LaneUnits() {
    for (int i = 0; i < static_cast<int>(sizeof(Vector)); ++i) {
      const int shift = i / kRun * Bits;
      mask[i] = static_cast<std::uint8_t>(((1 << Bits) - 1) << shift);
      unit[i / 4] = 1 / static_cast<float>(1 << shift);
    }
  }
};

template <int Bits>
constexpr LaneUnits<Bits> kLaneUnits;

/// What takes codes of 3, 5, 6 or 7 bits apart.
template <int Bits>
struct Shuffles {
#if defined(SQUISH_ISA_avx512vbmi)
  alignas(64) std::uint8_t bytes[64] = {}, shifts[64] = {};

  constexpr Shuffles() {
    for (int i = 0; i < 64; ++i) {
      bytes[i] = static_cast<std::uint8_t>(i / 8 * Bits + i % 8);
      shifts[i] = static_cast<std::uint8_t>(i % 8 * Bits);
    }
  }
#else
  // By lane of 16 bits, that an even and an odd code go to the low and the high byte of: two bytes
  // that hold the code, and what brings it there as the upper or lower half of a product.
  alignas(64) std::uint8_t even[64] = {}, odd[64] = {};
  alignas(64) std::uint16_t even_factor[32] = {}, odd_factor[32] = {}, lane_words[32] = {};

  constexpr Shuffles() {
    for (int i = 0; i < 32; ++i) {
      const int first = i % 8 * 2 * Bits, second = first + Bits;
      const int shift = first % 8 == 0 ? 8 : first % 8;  // 16 - 0 would not do
      const int byte = (first - shift) / 8;              // -1: zero
      even[2 * i] = static_cast<std::uint8_t>(first == 0 ? 128 : byte);
      even[2 * i + 1] = static_cast<std::uint8_t>(first == 0 ? 0 : byte + 1);
      even_factor[i] = static_cast<std::uint16_t>(1 << (16 - shift));
      odd[2 * i] = static_cast<std::uint8_t>(second / 8);
      odd[2 * i + 1] = static_cast<std::uint8_t>(second / 8 + 1);
      odd_factor[i] = static_cast<std::uint16_t>(1 << (8 - second % 8));
      lane_words[i] = static_cast<std::uint16_t>(i / 8 * Bits + i % 8);
    }
  }
#endif
};

template <int Bits>
constexpr Shuffles<Bits> kShuffles;

#if !defined(SQUISH_ISA_avx512vbmi)
/// 16 codes in each 128 bits, which begin with theirs.
template <int Bits>
Vector spread(Vector v) {
  const auto& s = kShuffles<Bits>;
  const Vector even =
      SQUISH_VECTOR(mulhi_epu16)(SQUISH_VECTOR(shuffle_epi8)(v, load(s.even)), load(s.even_factor));
  const Vector odd =
      SQUISH_VECTOR(mullo_epi16)(SQUISH_VECTOR(shuffle_epi8)(v, load(s.odd)), load(s.odd_factor));
  constexpr int mask = (1 << Bits) - 1;
  return SQUISH_BITS(or)(SQUISH_BITS(and)(even, SQUISH_VECTOR(set1_epi16)(mask)),
                         SQUISH_BITS(and)(odd, SQUISH_VECTOR(set1_epi16)(mask << 8)));
}
#endif

#if defined(SQUISH_ISA_avx512)

/// Bytes that unpack() reads.
template <int Bits>
constexpr std::size_t kRead = Bits == 2   ? 16
                              : Bits <= 4 ? 32
                                          : 64;

template <int Bits>
Codes unpack(const std::uint8_t* p) {
  const Vector mask = load(kLaneUnits<Bits>.mask);
  if constexpr (Bits == 8) {
    return {load(p)};
  } else if constexpr (Bits == 4) {
    const Vector twice =
        _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_and_si512(twice, mask)};
  } else if constexpr (Bits == 2) {
    const Vector times =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm512_and_si512(times, mask)};
  } else {
    Vector v;
    if constexpr (kRead<Bits> == 64) {
      v = load(p);
    } else {
      v = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    const auto& s = kShuffles<Bits>;
#if defined(SQUISH_ISA_avx512vbmi)
    const Vector eights = _mm512_permutexvar_epi8(load(s.bytes), v);
    return {_mm512_and_si512(_mm512_multishift_epi64_epi8(load(s.shifts), eights), mask)};
#else
    return {spread<Bits>(_mm512_permutexvar_epi16(load(s.lane_words), v))};
#endif
  }
}

/// A block of the input, as dot products want it; they are over its scale.
template <int Bits>
struct Factor {
  Vector x, rest;
  Factor(const IntInput& in, std::size_t b)
      : x(load(in.ordered_x + b * kBlock)), rest(load(in.ordered_rest + b * kBlock)) {}

  Vector dot(const Codes& codes, std::size_t /*vector*/) const {
    const Vector sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes.v[0], x);
    if constexpr (!kRest<Bits>) return sum;
    return _mm512_dpbusd_epi32(_mm512_slli_epi32(sum, kRestBits), codes.v[0], rest);
  }
  Vector dot(const Codes& codes) const { return dot(codes, 0); }
};

#else

template <int Bits>
constexpr std::size_t kRead = Bits == 2   ? 16
                              : Bits == 4 ? 32
                              : Bits == 8 ? 64
                                          : 6 * Bits + 16;

template <int Bits>
Codes unpack(const std::uint8_t* p) {
  const Vector mask = load(kLaneUnits<Bits>.mask);
  if constexpr (Bits == 8) {
    return {load(p), load(p + 32)};
  } else if constexpr (Bits == 4) {
    const Vector v = load(p);
    return {_mm256_and_si256(v, mask), _mm256_and_si256(_mm256_srli_epi16(v, 4), mask)};
  } else if constexpr (Bits == 2) {
    const Vector v =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_and_si256(v, mask), _mm256_and_si256(_mm256_srli_epi16(v, 4), mask)};
  } else {
    const auto two = [](const std::uint8_t* q) {
      return spread<Bits>(_mm256_inserti128_si256(
          _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q))),
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 2 * Bits)), 1));
    };
    return {two(p), two(p + 4 * Bits)};
  }
}

/// 32 elements, as dot products want them.
template <int Bits>
struct Half {
  Vector x;
  explicit Half(const std::int8_t* p) : x(load(p)) {}
  /// Pairs of products, in 16 bits.
  Vector pairs(Vector codes) const { return _mm256_maddubs_epi16(codes, x); }
  static Vector in_32(Vector pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
  Vector dot(Vector codes) const { return in_32(pairs(codes)); }
};

/// Not even two products of 8 bits fit 16.
template <>
struct Half<8> {
  Vector even, odd;
  explicit Half(const std::int8_t* p) {
    const Vector x = load(p);
    even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
    odd = _mm256_srai_epi16(x, 8);
  }
  Vector dot(Vector codes) const {
    const Vector low = _mm256_and_si256(codes, _mm256_set1_epi16(255));
    const Vector high = _mm256_srli_epi16(codes, 8);
    return _mm256_add_epi32(_mm256_madd_epi16(low, even), _mm256_madd_epi16(high, odd));
  }
};

/// A block of the input, as dot products want it; they are over its scale.
template <int Bits>
struct Factor {
  Half<Bits> x[2], rest[2];
  Factor(const IntInput& in, std::size_t b)
      : x{Half<Bits>(in.ordered_x + b * kBlock), Half<Bits>(in.ordered_x + b * kBlock + 32)},
        rest{Half<Bits>(in.ordered_rest + b * kBlock),
             Half<Bits>(in.ordered_rest + b * kBlock + 32)} {}

  Vector dot(const Codes& codes, std::size_t vector) const {
    const Vector sum = x[vector].dot(codes.v[vector]);
    if constexpr (!kRest<Bits>) return sum;
    return join(sum, rest[vector].dot(codes.v[vector]));
  }
  Vector dot(const Codes& codes) const {
    const Vector sum = both(x, codes);
    if constexpr (!kRest<Bits>) return sum;
    return join(sum, both(rest, codes));
  }

 private:
  static Vector join(Vector sum, Vector rest) {
    return _mm256_add_epi32(_mm256_slli_epi32(sum, kRestBits), rest);
  }
  static Vector both(const Half<Bits>* halves, const Codes& codes) {
    if constexpr (Bits <= 6) {  // four products fit 16 bits
      return Half<Bits>::in_32(
          _mm256_add_epi16(halves[0].pairs(codes.v[0]), halves[1].pairs(codes.v[1])));
    } else {
      return _mm256_add_epi32(halves[0].dot(codes.v[0]), halves[1].dot(codes.v[1]));
    }
  }
};

#endif

Floats in_float(Vector v) { return SQUISH_VECTOR(cvtepi32_ps)(v); }
Floats all(float f) { return SQUISH_VECTOR(set1_ps)(f); }
Floats load_floats(const float* p) { return SQUISH_VECTOR(loadu_ps)(p); }
void store_floats(float* p, Floats v) { SQUISH_VECTOR(storeu_ps)(p, v); }
Floats multiply(Floats a, Floats b) { return SQUISH_VECTOR(mul_ps)(a, b); }
Floats multiply_add(Floats a, Floats b, Floats c) { return SQUISH_VECTOR(fmadd_ps)(a, b, c); }

/// kRows rows, the last one over again where there are fewer.
template <int Bits>
class Rows {
 public:
  Rows(const IntMatrix& m, std::size_t first, std::size_t end) : m_(m) {
    for (std::size_t r = 0; r < kRows; ++r) {
      row_[r] = first + r < end ? first + r : end - 1;
      codes_[r] = m.codes + row_[r] * m.row_bytes;
    }
  }

  /// Adds what zeros, or the codes' offset, do; y[0 .. n), n perhaps more than there are.
  void finish(const float* input_sum, RowVectors sums, float* y, std::size_t n) const {
    const Floats unit = load_floats(kLaneUnits<Bits>.unit);
    for (Floats& sum : sums.v) sum = multiply(sum, unit);
    const std::uint8_t* const zeros = m_.zero == nullptr ? m_.scale : m_.zero;
    for (std::size_t g = 0; g < m_.groups; g += kLanes) {
      const RowVectors zero = groups_from(g, zeros);
      const Floats factor = load_floats(input_sum + g);
      for (std::size_t r = 0; r < kRows; ++r) {
        sums.v[r] = multiply_add(zero.v[r], factor, sums.v[r]);
      }
    }
    store_totals(sums, y, n);
  }

  void scales_by_group(float* scratch, std::size_t stride) const {
    for (std::size_t g = 0; g < m_.groups; g += kLanes) {
      const RowVectors scale = groups_from(g, m_.scale);
      for (std::size_t r = 0; r < kRows; ++r) store_floats(scratch + r * stride + g, scale.v[r]);
    }
  }

  /// Times the input's.
  void scales_by_block(const float* input, float* scratch, std::size_t stride) const {
    for (std::size_t b = 0; b < m_.blocks; b += kLanes) {
      const std::int32_t first = m_.block_group[b];
      const RowVectors scale = groups_from(static_cast<std::size_t>(first), m_.scale);
      const Vector lanes =
          SQUISH_VECTOR(sub_epi32)(load(m_.block_group + b), SQUISH_VECTOR(set1_epi32)(first));
      const Floats factor = load_floats(input + b);
      for (std::size_t r = 0; r < kRows; ++r) {
        store_floats(scratch + r * stride + b, multiply(permute(scale.v[r], lanes), factor));
      }
    }
  }

  /// add(b, codes), where codes[r] has kRead bytes, for all blocks.
  template <class Add>
  void for_blocks(const Add& add) const {
    const std::size_t left = m_.code_bytes - (codes_[kRows - 1] - m_.codes);
    std::size_t direct = left < kRead<Bits> ? 0 : (left - kRead<Bits>) / (8 * Bits) + 1;
    if (direct > m_.blocks) direct = m_.blocks;
    for (std::size_t b = 0; b < direct; ++b) {
      const std::uint8_t* p[kRows];
      for (std::size_t r = 0; r < kRows; ++r) {
        p[r] = codes_[r] + b * 8 * Bits;
        // Rows side by side are no stream that the hardware knows.
        _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(p[r]) +
                                                   2 * kRows * m_.row_bytes),
                     _MM_HINT_T0);
      }
      add(b, p);
    }
    for (std::size_t b = direct; b < m_.blocks; ++b) {
      std::uint8_t copies[kRows][kRead<Bits>] = {};
      const std::uint8_t* p[kRows];
      for (std::size_t r = 0; r < kRows; ++r) {
        const std::size_t at = b * 8 * Bits;
        for (std::size_t i = 0; i < 8 * Bits && at + i < m_.row_bytes; ++i) {
          copies[r][i] = codes_[r][at + i];
        }
        p[r] = copies[r];
      }
      add(b, p);
    }
  }

 private:
  /// Scales or zeros of the groups from g on that there are.
  RowVectors groups_from(std::size_t g, const std::uint8_t* values) const {
    RowVectors out;
    const Mask lanes = first_lanes(m_.groups - g);
    const auto* const floats = reinterpret_cast<const float*>(values) + g;
    const auto* const halves = reinterpret_cast<const std::uint16_t*>(values) + g;
    if (!m_.half) {
      for (std::size_t r = 0; r < kRows; ++r) {
        out.v[r] = load_floats(floats + row_[r] * m_.groups, lanes);
      }
    } else if (kMaskedHalves || row_[kRows - 1] * m_.groups + g + kLanes <= m_.rows * m_.groups) {
      for (std::size_t r = 0; r < kRows; ++r) {
        out.v[r] = load_halves(halves + row_[r] * m_.groups, lanes);
      }
    } else {
      for (std::size_t r = 0; r < kRows; ++r) {
        std::uint16_t copy[kLanes] = {};
        const std::uint16_t* const p = halves + row_[r] * m_.groups;
        for (std::size_t i = 0; i < kLanes && g + i < m_.groups; ++i) copy[i] = p[i];
        out.v[r] = load_halves(copy, lanes);
      }
    }
    return out;
  }

  const IntMatrix m_;
  std::size_t row_[kRows];
  const std::uint8_t* codes_[kRows];
};

template <int Bits>
void multiply_whole(const IntMatrix& m, const IntInput& in, std::size_t begin, std::size_t end,
                    float* scratch, std::size_t stride, float* y) {
  for (std::size_t row = begin; row < end; row += kRows) {
    const Rows<Bits> rows(m, row, end);
    RowVectors sums = {};
    rows.scales_by_block(in.scale, scratch, stride);
    rows.for_blocks([&](std::size_t b, const std::uint8_t* const* p) {
      const Factor<Bits> x(in, b);
      for (std::size_t r = 0; r < kRows; ++r) {
        sums.v[r] = multiply_add(in_float(x.dot(unpack<Bits>(p[r]))), all(scratch[r * stride + b]),
                                 sums.v[r]);
      }
    });
    rows.finish(in.sum, sums, y + row, end - row);
  }
}

template <int Bits>
void multiply_split(const IntMatrix& m, const IntInput& in, std::size_t begin, std::size_t end,
                    float* scratch, std::size_t stride, float* y) {
  for (std::size_t row = begin; row < end; row += kRows) {
    const Rows<Bits> rows(m, row, end);
    RowVectors sums = {};
    rows.scales_by_group(scratch, stride);
    rows.for_blocks([&](std::size_t b, const std::uint8_t* const* p) {
      const Factor<Bits> x(in, b);
      Codes codes[kRows];
      for (std::size_t r = 0; r < kRows; ++r) codes[r] = unpack<Bits>(p[r]);
      for (std::size_t v = 0; v < kVectors; ++v) {
        const std::size_t vector = b * kVectors + v;
        const Vector lanes = load_lanes(m.lane_group + vector * kLanes);
        for (std::size_t r = 0; r < kRows; ++r) {
          const Floats scales = load_floats(scratch + r * stride + m.vector_group[vector]);
          const Floats product = multiply(in_float(x.dot(codes[r], v)), all(in.scale[b]));
          sums.v[r] = multiply_add(product, permute(scales, lanes), sums.v[r]);
        }
      }
    });
    rows.finish(in.sum, sums, y + row, end - row);
  }
}

constexpr std::size_t kOpsLanes = kLanes;

#else

constexpr std::size_t kOpsLanes = 0;
template <int Bits>
constexpr IntOps::Multiply multiply_whole = multiply_any<Bits>;
template <int Bits>
constexpr IntOps::Multiply multiply_split = multiply_any<Bits>;

#endif

#define SQUISH_ALL_BITS(function) \
  { function<2>, function<3>, function<4>, function<5>, function<6>, function<7>, function<8> }

}  // namespace

extern const IntOps kIntOps;
const IntOps kIntOps = {kOpsLanes,
                        order,
                        SQUISH_ALL_BITS(multiply_whole),
                        SQUISH_ALL_BITS(multiply_split),
                        SQUISH_ALL_BITS(multiply_any),
                        SQUISH_ALL_BITS(decode)};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
