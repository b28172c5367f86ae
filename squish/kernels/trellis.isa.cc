#include "squish/kernels/trellis.isa.h"

#include "squish/kernels/constants.h"

#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
#include <immintrin.h>
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

/// The bytes that the windows of a group's rows lie in: `Bits` of its own and two more.
template <int Bits>
struct Sources {
  const std::uint8_t* bytes[Bits + 2];

  Sources(const TrellisPart& part, const std::uint32_t* after, std::size_t group,
          std::size_t width) {
    for (std::size_t b = 0; b < Bits + 2; ++b) {
      bytes[b] = part.codes + group * part.group_bytes + (part.before + b % Bits) * width;
      if ((b + 1) % Bits == 0) group = after[group];
    }
  }
};

#if !defined(SQUISH_ISA_avx2) && !defined(SQUISH_ISA_avx512)

std::int32_t value(const TrellisTables& t, std::uint32_t window) {
  std::uint8_t h = static_cast<std::uint8_t>(window);
  h = static_cast<std::uint8_t>(h ^ t.low[window >> 8 & 15] ^ t.high[window >> 12 & 15]);
  return t.sums[h] - 128 + (t.third ? t.tables[2][window >> 4 & 15] : 0);
}

/// take(r, j, value) for row r and column j of a group.
template <int Bits, class Take>
void for_values(const TrellisPart& part, const std::uint32_t* after, std::size_t group,
                const Take& take) {
  for (std::size_t first = 0; first < part.cols; first += kBlock) {
    const std::size_t width = part.cols - first < kBlock ? part.cols - first : kBlock;
    const Sources<Bits> from(part, after, group, width);
    const std::size_t at = first / kBlock * part.block_bytes;
    for (std::size_t j = 0; j < width; ++j) {
      std::uint64_t window = 0;
      for (std::size_t b = 0; b < Bits + 2; ++b) {
        window |= std::uint64_t{from.bytes[b][at + j]} << (8 * b);
      }
      for (std::size_t r = 0; r < 8; ++r) {
        take(r, first + j, value(*part.tables, static_cast<std::uint32_t>(window >> (Bits * r))));
      }
    }
  }
}

template <int Bits>
void multiply(const TrellisPart& part, const std::uint32_t* after, std::size_t begin,
              std::size_t end, std::int32_t* sums, std::int32_t* rests) {
  for (std::size_t g = begin; g < end; ++g) {
    std::int32_t* const sum = sums + 8 * (g - begin);
    std::int32_t* const rest = rests + 8 * (g - begin);
    for (std::size_t r = 0; r < 8; ++r) sum[r] = rest[r] = 0;
    for_values<Bits>(part, after, g, [&](std::size_t r, std::size_t j, std::int32_t weight) {
      sum[r] += weight * part.x[j];
      if (part.rest != nullptr) rest[r] += weight * part.rest[j];
    });
  }
}

template <int Bits>
void decode(const TrellisPart& part, const std::uint32_t* after, std::size_t begin, std::size_t end,
            float factor, bool add, float* rows, std::size_t stride) {
  for (std::size_t g = begin; g < end; ++g, rows += 8 * stride) {
    for_values<Bits>(part, after, g, [&](std::size_t r, std::size_t j, std::int32_t weight) {
      float& to = rows[r * stride + j];
      to = factor * static_cast<float>(weight) + (add ? to : 0);
    });
  }
}

#else

#if defined(SQUISH_ISA_avx512)
#define SQUISH_VECTOR(operation) _mm512_##operation
#define SQUISH_BITS(operation) _mm512_##operation##_si512
typedef __m512i Vector;
Vector table(const void* t) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(t)));
}
std::int32_t total(Vector v) { return _mm512_reduce_add_epi32(v); }
#else
#define SQUISH_VECTOR(operation) _mm256_##operation
#define SQUISH_BITS(operation) _mm256_##operation##_si256
typedef __m256i Vector;
Vector table(const void* t) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(t)));
}
std::int32_t total(Vector v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
#endif

Vector load(const void* p) {
#if defined(SQUISH_ISA_avx512)
  return _mm512_loadu_si512(p);
#else
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
#endif
}
#if defined(SQUISH_ISA_avx512vbmi)

Vector through(Vector bytes, std::uint64_t matrix) {
  return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(static_cast<long long>(matrix)), 0);
}

/// Each byte's upper half as its lower one.
alignas(64) constexpr std::uint8_t kUpperHalf[64] = {
    4,  12, 20, 28, 36, 44, 52, 60, 4,  12, 20, 28, 36, 44, 52, 60, 4,  12, 20, 28, 36, 44,
    52, 60, 4,  12, 20, 28, 36, 44, 52, 60, 4,  12, 20, 28, 36, 44, 52, 60, 4,  12, 20, 28,
    36, 44, 52, 60, 4,  12, 20, 28, 36, 44, 52, 60, 4,  12, 20, 28, 36, 44, 52, 60};

/// Values and 128, of row R.
template <int Bits, bool Third, bool Narrow>
class Decoder {
 public:
  explicit Decoder(const TrellisTables& t)
      : t_(t),
        upper_half_(load(kUpperHalf)),
        first_(_mm512_add_epi8(table(t.tables[0]), _mm512_set1_epi8(-128))),
        second_(table(t.tables[1])),
        third_(table(t.tables[2])) {}

  template <int R>
  __attribute__((always_inline)) Vector values(const Vector* v) const {
    constexpr int q = Bits * R / 8, shift = Bits * R % 8;
    constexpr bool kThreeBytes = shift > (Narrow ? 4 : 0);
    Vector h =
        _mm512_xor_si512(through(v[q], t_.hash[shift][0]), through(v[q + 1], t_.hash[shift][1]));
    if constexpr (kThreeBytes) h = _mm512_xor_si512(h, through(v[q + 2], t_.hash[shift][2]));
    // Six bits of h are looked up, in tables of four that are repeated: on Intel's CPUs one
    // look-up of eight costs six times as much.
    Vector value = _mm512_add_epi8(
        _mm512_permutexvar_epi8(h, first_),
        _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(upper_half_, h), second_));
    if constexpr (Third) {
      // Bits 4 to 7 of the state; what lies above them does not matter.
      Vector n = v[q + 1];
      if constexpr (shift < 4) n = through(v[q], t_.nibble[shift][0]);
      if constexpr (shift > 4) n = through(n, t_.nibble[shift][1]);
      if constexpr (shift > 0 && shift < 4) {
        n = _mm512_or_si512(n, through(v[q + 1], t_.nibble[shift][1]));
      }
      value = _mm512_add_epi8(value, _mm512_permutexvar_epi8(n, third_));
    }
    return value;
  }

 private:
  const TrellisTables& t_;
  const Vector upper_half_, first_, second_, third_;
};

#else

Vector bytes_of(int b) { return SQUISH_VECTOR(set1_epi8)(static_cast<char>(b)); }

/// Eight bits from bit `Shift` of a on, the rest from b.
template <int Shift>
Vector window(Vector a, Vector b) {
  if constexpr (Shift == 0) return a;
  const Vector mask = bytes_of(255 >> Shift);
  return SQUISH_BITS(or)(SQUISH_BITS(and)(SQUISH_VECTOR(srli_epi16)(a, Shift), mask),
                         SQUISH_BITS(andnot)(mask, SQUISH_VECTOR(slli_epi16)(b, 8 - Shift)));
}

/// Values, and on AVX-512 128 more, of row R.
template <int Bits, bool Third, bool Narrow>
class Decoder {
 public:
  explicit Decoder(const TrellisTables& t)
      : low_(table(t.low)),
        high_(table(t.high)),
        first_(table(t.tables[0])),
        second_(table(t.tables[1])),
        third_(table(t.tables[2])) {
#if defined(SQUISH_ISA_avx512)
    second_ = _mm512_add_epi8(second_, bytes_of(128));
#endif
  }

  template <int R>
  __attribute__((always_inline)) Vector values(const Vector* v) const {
    constexpr int q = Bits * R / 8, shift = Bits * R % 8;
    const Vector low = window<shift>(v[q], v[q + 1]);
    Vector h;
    if constexpr (Narrow && shift <= 4) {  // its last four bits, whatever else is there
      h = SQUISH_BITS(xor)(low, look_up_low(low_, SQUISH_VECTOR(srli_epi16)(v[q + 1], shift)));
    } else {
      const Vector high = window<shift>(v[q + 1], v[q + (shift == 0 ? 1 : 2)]);
      h = SQUISH_BITS(xor)(low, look_up_low(low_, high));
      if constexpr (!Narrow) h = SQUISH_BITS(xor)(h, look_up_high(high_, high));
    }
    Vector value = SQUISH_VECTOR(add_epi8)(look_up_low(first_, h), look_up_high(second_, h));
    if constexpr (Third) value = SQUISH_VECTOR(add_epi8)(value, look_up_high(third_, low));
    return value;
  }

 private:
  static Vector look_up_low(Vector table, Vector at) {
    return SQUISH_VECTOR(shuffle_epi8)(table, SQUISH_BITS(and)(at, bytes_of(15)));
  }
  static Vector look_up_high(Vector table, Vector at) {
    return look_up_low(table, SQUISH_VECTOR(srli_epi16)(at, 4));
  }

  Vector low_, high_, first_, second_, third_;
};

#endif

#if defined(SQUISH_ISA_avx512)
/// x as dot products want it.
struct Factor {
  Vector x;
  explicit Factor(const std::int8_t* p) : x(load(p)) {}
  Vector dot(Vector sum, Vector values) const { return _mm512_dpbusd_epi32(sum, values, x); }
};
constexpr std::int32_t kOffset = 128;
#else
struct Factor {
  Vector x, size;
  explicit Factor(const std::int8_t* p) : x(load(p)), size(_mm256_abs_epi8(x)) {}
  // |x| * sign(x) value: pairs of products of 7-bit magnitudes fit 16 bits.
  Vector dot(Vector sum, Vector values) const {
    const Vector pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(values, x));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};
constexpr std::int32_t kOffset = 0;
#endif

/// run<Third, Narrow>() by the code's.
template <class Run>
void with_code(const TrellisTables& t, const Run& run) {
  if (t.third) {
    t.narrow ? run.template operator()<true, true>() : run.template operator()<true, false>();
  } else {
    t.narrow ? run.template operator()<false, true>() : run.template operator()<false, false>();
  }
}

/// Of eight rows.
struct Sums {
  Vector of_x[8], of_rest[8];
};

// Inlined, or the sums would go through memory.
template <bool Rest, int R = 0, class Decoder>
__attribute__((always_inline)) inline void add_rows(const Decoder& decoder, const Vector* v,
                                                    const Factor& x, const Factor& rest,
                                                    Sums& sums) {
  const Vector values = decoder.template values<R>(v);
  sums.of_x[R] = x.dot(sums.of_x[R], values);
  if constexpr (Rest) sums.of_rest[R] = rest.dot(sums.of_rest[R], values);
  if constexpr (R < 7) add_rows<Rest, R + 1>(decoder, v, x, rest, sums);
}

/// take(v, col) for all vectors of columns of a group, v being their bytes; beyond the last column
/// these are 0.
template <int Bits, class Take>
__attribute__((always_inline)) inline void for_vectors(const TrellisPart& part,
                                                       const std::uint32_t* after,
                                                       std::size_t group, const Take& take) {
  const std::size_t whole = part.cols / kBlock, rest = part.cols % kBlock;
  const Sources<Bits> from(part, after, group, kBlock);
  for (std::size_t block = 0; block < whole; ++block) {
    for (std::size_t j = 0; j < kBlock; j += sizeof(Vector)) {
      const std::size_t at = block * part.block_bytes + j;
      Vector v[Bits + 2];
      for (int b = 0; b < Bits + 2; ++b) v[b] = load(from.bytes[b] + at);
      take(v, block * kBlock + j);
    }
  }
  if (rest == 0) return;
  const Sources<Bits> narrow(part, after, group, rest);
  alignas(64) std::uint8_t bytes[Bits + 2][kBlock] = {};
  for (int b = 0; b < Bits + 2; ++b) {
    for (std::size_t j = 0; j < rest; ++j) {
      bytes[b][j] = narrow.bytes[b][whole * part.block_bytes + j];
    }
  }
  for (std::size_t j = 0; j < kBlock; j += sizeof(Vector)) {
    Vector v[Bits + 2];
    for (int b = 0; b < Bits + 2; ++b) v[b] = load(bytes[b] + j);
    take(v, whole * kBlock + j);
  }
}

template <int Bits, bool Third, bool Narrow, bool Rest>
void multiply_by(const TrellisPart& part, const std::uint32_t* after, std::size_t begin,
                 std::size_t end, std::int32_t* sums, std::int32_t* rests) {
  const std::int8_t* const second = Rest ? part.rest : part.x;
  const Decoder<Bits, Third, Narrow> decoder(*part.tables);
  for (std::size_t g = begin; g < end; ++g) {
    Sums sum;
    for (int r = 0; r < 8; ++r) sum.of_x[r] = sum.of_rest[r] = SQUISH_BITS(setzero)();
    for_vectors<Bits>(
        part, after, g, [&](const Vector* v, std::size_t col) __attribute__((always_inline)) {
          // Two groups ahead: what the hardware fetches by itself ends with a page.
          const std::uintptr_t ahead = reinterpret_cast<std::uintptr_t>(part.codes) +
                                       (g + 2) * part.group_bytes + col * Bits;
#pragma GCC unroll 4
          for (std::size_t i = 0; i < Bits * sizeof(Vector); i += 64) {
            _mm_prefetch(reinterpret_cast<const char*>(ahead + i), _MM_HINT_T0);
          }
          add_rows<Rest>(decoder, v, Factor(part.x + col), Factor(second + col), sum);
        });
    for (std::size_t r = 0; r < 8; ++r) {
      sums[8 * (g - begin) + r] = total(sum.of_x[r]) - kOffset * part.sum_x;
      if constexpr (Rest)
        rests[8 * (g - begin) + r] = total(sum.of_rest[r]) - kOffset * part.sum_rest;
    }
  }
}

template <int Bits>
void multiply(const TrellisPart& part, const std::uint32_t* after, std::size_t begin,
              std::size_t end, std::int32_t* sums, std::int32_t* rests) {
  const bool rest = part.rest != nullptr;
  with_code(*part.tables, [&]<bool Third, bool Narrow>() {
    (rest ? multiply_by<Bits, Third, Narrow, true>
          : multiply_by<Bits, Third, Narrow, false>)(part, after, begin, end, sums, rests);
  });
}

/// Of the n first columns of a vector.
void store_values(Vector values, std::size_t n, float factor, bool add, float* to) {
  alignas(64) std::uint8_t bytes[sizeof(Vector)];
  __builtin_memcpy(bytes, &values, sizeof(values));
  for (std::size_t j = 0; j < n; ++j) {
    const int value = kOffset == 0 ? static_cast<std::int8_t>(bytes[j]) : bytes[j] - kOffset;
    to[j] = factor * static_cast<float>(value) + (add ? to[j] : 0);
  }
}

template <int R = 0, class Decoder>
__attribute__((always_inline)) inline void decode_rows(const Decoder& decoder, const Vector* v,
                                                       std::size_t n, float factor, bool add,
                                                       float* to, std::size_t stride) {
  store_values(decoder.template values<R>(v), n, factor, add, to + R * stride);
  if constexpr (R < 7) decode_rows<R + 1>(decoder, v, n, factor, add, to, stride);
}

template <int Bits, bool Third, bool Narrow>
void decode_by(const TrellisPart& part, const std::uint32_t* after, std::size_t begin,
               std::size_t end, float factor, bool add, float* rows, std::size_t stride) {
  const Decoder<Bits, Third, Narrow> decoder(*part.tables);
  for (std::size_t g = begin; g < end; ++g, rows += 8 * stride) {
    for_vectors<Bits>(part, after, g, [&](const Vector* v, std::size_t col) {
      if (col >= part.cols) return;
      const std::size_t n = part.cols - col < sizeof(Vector) ? part.cols - col : sizeof(Vector);
      decode_rows(decoder, v, n, factor, add, rows + col, stride);
    });
  }
}

template <int Bits>
void decode(const TrellisPart& part, const std::uint32_t* after, std::size_t begin, std::size_t end,
            float factor, bool add, float* rows, std::size_t stride) {
  with_code(*part.tables, [&]<bool Third, bool Narrow>() {
    decode_by<Bits, Third, Narrow>(part, after, begin, end, factor, add, rows, stride);
  });
}

#endif

}  // namespace

extern const TrellisOps kTrellisOps;
const TrellisOps kTrellisOps = {{decode<1>, decode<2>, decode<3>, decode<4>},
                                {multiply<1>, multiply<2>, multiply<3>, multiply<4>}};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
