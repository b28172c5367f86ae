#include "squish/kernels/quip.isa.h"

#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
#include <immintrin.h>
#endif
#if defined(SQUISH_ISA_avx512vbmi)
#include "squish/kernels/byte_table.isa.h"
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

#if !defined(SQUISH_ISA_avx512vbmi)

void arrange(const std::int8_t* x, std::size_t blocks, std::int8_t* out) {
  for (std::size_t i = 0; i < 64 * blocks; ++i) out[i] = x[i];
}

constexpr std::size_t code_bytes(const E8pLookup& /*t*/) { return 2; }
constexpr std::size_t code_bytes(const E81bLookup& /*t*/) { return 1; }

#endif

#if !defined(SQUISH_ISA_avx2) && !defined(SQUISH_ISA_avx512)

std::uint64_t look_up(const E8pLookup& t, const std::uint8_t* codes, std::size_t v) {
  return t.rows[codes[2 * v + 1]] ^ t.signs[codes[2 * v]];
}
std::uint64_t look_up(const E81bLookup& t, const std::uint8_t* codes, std::size_t v) {
  return t.points[codes[v]];
}

template <class Lookup>
void multiply(const Lookup& t, const QuipPart& part, std::size_t begin, std::size_t end,
              std::int32_t* sums, std::int32_t* rests) {
  for (std::size_t r = begin; r < end; ++r) {
    const std::uint8_t* const codes = part.codes + r * part.row_vectors * code_bytes(t);
    std::int32_t sum = 0, rest = 0;
    for (std::size_t v = 0; v < part.row_vectors; ++v) {
      const std::uint64_t values = look_up(t, codes, v);
      for (std::size_t i = 0; i < 8; ++i) {
        const auto value = static_cast<std::int32_t>(values >> (8 * i) & 255);
        sum += value * part.x[8 * v + i];
        if (part.rest != nullptr) rest += value * part.rest[8 * v + i];
      }
    }
    sums[r - begin] = sum;
    rests[r - begin] = rest;
  }
}

#elif !defined(SQUISH_ISA_avx512vbmi)

// Four vectors of a row side by side, also with AVX-512: look-ups are most of the work.
typedef __m256i Vector;

__m128i pair(const std::uint64_t& low, const std::uint64_t& high) {
  const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(&low));
  return _mm_castpd_si128(
      _mm_loadh_pd(_mm_castsi128_pd(first), reinterpret_cast<const double*>(&high)));
}
__m128i two(const E8pLookup& t, std::uint64_t codes) {
  return _mm_xor_si128(pair(t.rows[codes >> 8 & 255], t.rows[codes >> 24 & 255]),
                       pair(t.signs[codes & 255], t.signs[codes >> 16 & 255]));
}
__m128i two(const E81bLookup& t, std::uint64_t codes) {
  return pair(t.points[codes & 255], t.points[codes >> 8 & 255]);
}

template <class Lookup>
Vector four(const Lookup& t, const std::uint8_t* p) {
  std::uint64_t codes = 0;
  __builtin_memcpy(&codes, p, 4 * code_bytes(t));
  const __m128i first = two(t, codes), second = two(t, codes >> (16 * code_bytes(t)));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}

Vector load(const std::int8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

std::int32_t total(Vector v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

// Sums of 32 values' products with x each: four pairs of products of 5 bits fit 16.
template <int Count>
Vector dots(const Vector* values, const std::int8_t* x, Vector sum) {
#if defined(SQUISH_ISA_avx512)
  for (int i = 0; i < Count; ++i) sum = _mm256_dpbusd_epi32(sum, values[i], load(x + 32 * i));
  return sum;
#else
  Vector pairs = _mm256_maddubs_epi16(values[0], load(x));
  for (int i = 1; i < Count; ++i) {
    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(values[i], load(x + 32 * i)));
  }
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

template <bool Rest, class Lookup>
void multiply_by(const Lookup& t, const QuipPart& part, std::size_t begin, std::size_t end,
                 std::int32_t* sums, std::int32_t* rests) {
  const std::size_t width = code_bytes(t), n = part.row_vectors;
  for (std::size_t r = begin; r < end; ++r) {
    const std::uint8_t* const codes = part.codes + r * n * width;
    Vector sum = _mm256_setzero_si256(), rest = _mm256_setzero_si256();
    std::size_t v = 0;
    for (; v + 16 <= n; v += 16) {
      const std::uint8_t* const p = codes + v * width;
      const Vector values[4] = {four(t, p), four(t, p + 4 * width), four(t, p + 8 * width),
                                four(t, p + 12 * width)};
      sum = dots<4>(values, part.x + 8 * v, sum);
      if constexpr (Rest) rest = dots<4>(values, part.rest + 8 * v, rest);
    }
    for (; v + 4 <= n; v += 4) {
      const Vector values = four(t, codes + v * width);
      sum = dots<1>(&values, part.x + 8 * v, sum);
      if constexpr (Rest) rest = dots<1>(&values, part.rest + 8 * v, rest);
    }
    if (v < n) {
      std::uint8_t last[8] = {};
      for (std::size_t i = 0; i < (n - v) * width; ++i) last[i] = codes[v * width + i];
      const Vector values = four(t, last);
      sum = dots<1>(&values, part.x + 8 * v, sum);
      if constexpr (Rest) rest = dots<1>(&values, part.rest + 8 * v, rest);
    }
    sums[r - begin] = total(sum);
    if constexpr (Rest) rests[r - begin] = total(rest);
  }
}

template <class Lookup>
void multiply(const Lookup& t, const QuipPart& part, std::size_t begin, std::size_t end,
              std::int32_t* sums, std::int32_t* rests) {
  (part.rest != nullptr ? multiply_by<true, Lookup> : multiply_by<false, Lookup>)(t, part, begin,
                                                                                  end, sums, rests);
}

#else

// Vectors are decoded side by side, a byte lane each, 16 of each of four rows; coordinate i of all
// of them meets x in 16 bytes that hold every eighth element.
typedef __m512i Vector;

constexpr std::size_t kWidth = 16;  // vectors of a row that are decoded together
constexpr std::size_t kGroups = 2;  // of four rows, which share what is loaded
constexpr std::size_t kRows = 4 * kGroups;

Vector load(const void* p) { return _mm512_loadu_si512(p); }
__m256i load32(const std::uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
__m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
Vector all(std::uint64_t matrix) { return _mm512_set1_epi64(static_cast<long long>(matrix)); }

/// Byte 16 i + v of a block of 128 = byte 8 v + i of x.
void arrange(const std::int8_t* x, std::size_t blocks, std::int8_t* out) {
  alignas(64) std::uint8_t from[128];
  for (std::size_t n = 0; n < 128; ++n) {
    from[n] = static_cast<std::uint8_t>(n % 16 * 8 + n / 16);
  }
  for (std::size_t b = 0; b < blocks; b += 2) {
    const Vector low = load(x + 64 * b);
    const Vector high = b + 1 < blocks ? load(x + 64 * b + 64) : _mm512_setzero_si512();
    for (std::size_t h = 0; h < 128; h += 64) {
      _mm512_storeu_si512(out + 64 * b + h, _mm512_permutex2var_epi8(low, load(from + h), high));
    }
  }
}

class E8pDecoder {
 public:
  static constexpr std::size_t kBytes = 2 * kWidth;  // of codes

  explicit E8pDecoder(const E8pLookup& t)
      : t_(t), halves_{ByteTable(t.halves[0]), ByteTable(t.halves[1])} {
    alignas(64) std::uint8_t even[64], odd[64];
    for (int i = 0; i < 64; ++i) {
      even[i] = static_cast<std::uint8_t>(2 * i);
      odd[i] = static_cast<std::uint8_t>(2 * i + 1);
    }
    even_ = load(even);
    odd_ = load(odd);
  }

  struct Codes {
    Vector halves[2], signs;
  };
  Codes read(const std::uint8_t* const* rows, std::size_t at) const {
    const auto two = [&](int r) {
      return _mm512_inserti64x4(_mm512_castsi256_si512(load32(rows[r] + at)),
                                load32(rows[r + 1] + at), 1);
    };
    const Vector a = two(0), b = two(2);
    const Vector row = _mm512_permutex2var_epi8(a, odd_, b);
    return {{halves_[0].look_up(row), halves_[1].look_up(row)},
            _mm512_permutex2var_epi8(a, even_, b)};
  }

  template <int I>
  Vector coordinate(const Codes& c) const {
    const Vector row =
        _mm512_gf2p8affine_epi64_epi8(c.halves[I / 4], all(t_.of_half[I]), E8pLookup::kOffset + 3);
    const Vector sign = _mm512_gf2p8affine_epi64_epi8(c.signs, all(t_.of_signs[I]), 0);
    const Vector value = _mm512_xor_si512(row, sign);
    if constexpr (I < 7) return value;
    return _mm512_xor_si512(value,
                            _mm512_gf2p8affine_epi64_epi8(c.halves[0], all(t_.of_first_half), 0));
  }

 private:
  const E8pLookup& t_;
  const ByteTable halves_[2];
  Vector even_, odd_;
};

class E81bDecoder {
 public:
  static constexpr std::size_t kBytes = kWidth;

  explicit E81bDecoder(const E81bLookup& t)
      : pairs_{ByteTable(t.pairs[0]), ByteTable(t.pairs[1]), ByteTable(t.pairs[2]),
               ByteTable(t.pairs[3])} {}

  struct Codes {
    Vector pairs[4];
  };
  Codes read(const std::uint8_t* const* rows, std::size_t at) const {
    Vector codes = _mm512_castsi128_si512(load16(rows[0] + at));
    codes = _mm512_inserti32x4(codes, load16(rows[1] + at), 1);
    codes = _mm512_inserti32x4(codes, load16(rows[2] + at), 2);
    codes = _mm512_inserti32x4(codes, load16(rows[3] + at), 3);
    return {{pairs_[0].look_up(codes), pairs_[1].look_up(codes), pairs_[2].look_up(codes),
             pairs_[3].look_up(codes)}};
  }

  template <int I>
  Vector coordinate(const Codes& c) const {
    const Vector pair = I < 4 ? c.pairs[I % 4] : _mm512_srli_epi16(c.pairs[I % 4], 4);
    return _mm512_and_si512(pair, _mm512_set1_epi8(15));
  }

 private:
  const ByteTable pairs_[4];
};

/// Of four rows each.
struct Sums {
  Vector of_x[kGroups] = {}, of_rest[kGroups] = {};
};

template <class Decoder, bool Rest, int I = 0>
void add_block(const Decoder& decoder, const typename Decoder::Codes* codes, const std::int8_t* x,
               const std::int8_t* rest, Sums& sums) {
  const Vector factor = _mm512_broadcast_i32x4(load16(x + 16 * I));
  const Vector rest_factor = _mm512_broadcast_i32x4(load16(rest + 16 * I));
  for (std::size_t g = 0; g < kGroups; ++g) {
    const Vector values = decoder.template coordinate<I>(codes[g]);
    sums.of_x[g] = _mm512_dpbusd_epi32(sums.of_x[g], values, factor);
    if constexpr (Rest) sums.of_rest[g] = _mm512_dpbusd_epi32(sums.of_rest[g], values, rest_factor);
  }
  if constexpr (I < 7) add_block<Decoder, Rest, I + 1>(decoder, codes, x, rest, sums);
}

/// Row r's of a group of four.
std::int32_t total(Vector lanes, std::size_t r) {
  alignas(64) std::int32_t each[16];
  _mm512_store_si512(each, lanes);
  return each[4 * r] + each[4 * r + 1] + each[4 * r + 2] + each[4 * r + 3];
}

template <class Decoder, bool Rest, class Lookup>
void multiply_by(const Lookup& t, const QuipPart& part, std::size_t begin, std::size_t end,
                 std::int32_t* sums, std::int32_t* rests) {
  const Decoder decoder(t);
  const std::int8_t* const second = Rest ? part.rest : part.x;
  constexpr std::size_t kBytes = Decoder::kBytes;
  const std::size_t row_bytes = part.row_vectors * kBytes / kWidth;
  const std::size_t whole = row_bytes / kBytes * kBytes, rest = row_bytes - whole;
  for (std::size_t first = begin; first < end; first += kRows) {
    const std::uint8_t* rows[kRows];
    for (std::size_t r = 0; r < kRows; ++r) {
      rows[r] = part.codes + (first + r < end ? first + r : end - 1) * row_bytes;
    }
    Sums sum;
    const auto add = [&](const std::uint8_t* const* from, std::size_t at, std::size_t col) {
      typename Decoder::Codes codes[kGroups];
      for (std::size_t g = 0; g < kGroups; ++g) codes[g] = decoder.read(from + 4 * g, at);
      add_block<Decoder, Rest>(decoder, codes, part.x + col, second + col, sum);
    };
    for (std::size_t at = 0; at < whole; at += kBytes) add(rows, at, at / kBytes * 128);
    if (rest > 0) {
      const std::size_t col = whole / kBytes * 128;
      // Codes of the next row meet zeros of x, but there is nothing to read after the last.
      if (rows[kRows - 1] + whole + kBytes <= part.codes + part.bytes) {
        add(rows, whole, col);
      } else {
        std::uint8_t copies[kRows][kBytes] = {};
        for (std::size_t r = 0; r < kRows; ++r) {
          for (std::size_t i = 0; i < rest; ++i) copies[r][i] = rows[r][whole + i];
          rows[r] = copies[r];
        }
        add(rows, 0, col);
      }
    }
    for (std::size_t r = first; r < end && r < first + kRows; ++r) {
      sums[r - begin] = total(sum.of_x[(r - first) / 4], (r - first) % 4);
      if constexpr (Rest) rests[r - begin] = total(sum.of_rest[(r - first) / 4], (r - first) % 4);
    }
  }
}

template <class Decoder, class Lookup>
void multiply(const Lookup& t, const QuipPart& part, std::size_t begin, std::size_t end,
              std::int32_t* sums, std::int32_t* rests) {
  (part.rest != nullptr ? multiply_by<Decoder, true, Lookup>
                        : multiply_by<Decoder, false, Lookup>)(t, part, begin, end, sums, rests);
}

#endif

}  // namespace

extern const QuipOps kQuipOps;
#if defined(SQUISH_ISA_avx512vbmi)
const QuipOps kQuipOps = {arrange, multiply<E8pDecoder, E8pLookup>,
                          multiply<E81bDecoder, E81bLookup>};
#else
const QuipOps kQuipOps = {arrange, multiply<E8pLookup>, multiply<E81bLookup>};
#endif

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
