#include "squish/kernels/int_codes.isa.h"

#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
#include <immintrin.h>
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {

extern const IntTileOps kIntTileOps;

#if !defined(SQUISH_ISA_avx2) && !defined(SQUISH_ISA_avx512)

const IntTileOps kIntTileOps = {};

#else

namespace {

using namespace squish::SQUISH_ISA_NAMESPACE;

#if defined(SQUISH_ISA_avx512)
#define SQUISH_VECTOR(operation) _mm512_##operation
#define SQUISH_BITS(operation) _mm512_##operation##_si512
typedef __m512i Vector;

Vector load(const void* p) { return _mm512_loadu_si512(p); }
Floats load_halves(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}

#else
#define SQUISH_VECTOR(operation) _mm256_##operation
#define SQUISH_BITS(operation) _mm256_##operation##_si256
typedef __m256i Vector;

Vector load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
Floats load_halves(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
#endif

Vector all(std::int32_t v) { return SQUISH_VECTOR(set1_epi32)(v); }
Floats all(float v) { return SQUISH_VECTOR(set1_ps)(v); }

constexpr std::size_t kTileVectors = kTileRows / kLanes;
/// Tiles worked out together, so that they share what is loaded of the input.
constexpr std::size_t kTiles = kLanes == 16 ? 2 : 1;
constexpr std::size_t block_bytes(int bits) { return static_cast<std::size_t>(128 * bits); }

// --- codes ---------------------------------------------------------------------------------

#if defined(SQUISH_ISA_avx512vbmi)
/// For gf2p8affineqb: bits [from, from + width) of a byte, moved to `to`.
constexpr std::uint64_t moved_bits(unsigned from, unsigned width, unsigned to) {
  std::uint64_t matrix = 0;
  for (unsigned i = 0; i < width; ++i) {
    matrix |= std::uint64_t{1} << (from + i) << (8 * (7 - (to + i)));
  }
  return matrix;
}
#endif

/// Bits [from, from + width) of each byte, moved to `to`.
inline Vector field(Vector v, unsigned from, unsigned width, unsigned to) {
  if (width == 8) return v;
#if defined(SQUISH_ISA_avx512vbmi)
  if (from != to) {
    const auto matrix = static_cast<long long>(moved_bits(from, width, to));
    return _mm512_gf2p8affine_epi64_epi8(v, _mm512_set1_epi64(matrix), 0);
  }
#endif
  if (from > to) v = SQUISH_VECTOR(srli_epi16)(v, from - to);
  if (from < to) v = SQUISH_VECTOR(slli_epi16)(v, to - from);
  const auto mask = static_cast<char>(((1u << width) - 1) << to);
  return SQUISH_BITS(and)(v, SQUISH_VECTOR(set1_epi8)(mask));
}

/// The codes of a step of a block, of which `p` points to a vector's lanes; all but p is known when
/// this is compiled.
template <int Bits>
inline Vector step_codes(const std::uint8_t* p, unsigned step) {
  Vector codes{};
  unsigned at = 0;
#pragma GCC unroll 4
  for (unsigned width = 8; width > 0; width /= 2) {
    if ((Bits & width) == 0) continue;
    const unsigned per = 8 / width;
    const Vector v = load(p + 64 * (2 * at + step / per));
    const Vector part = field(v, step % per * width, width, at);
    codes = at == 0 ? part : SQUISH_BITS(or)(codes, part);
    at += width;
  }
  return codes;
}

template <int Bits>
void arrange(const IntMatrix& m, std::size_t tile, std::uint8_t* out) {
  const std::size_t first = tile * kTileRows, rows = smaller(kTileRows, m.rows - first);
  for (std::size_t b = 0; b < m.blocks; ++b) {
    std::uint8_t steps[kTileSteps][kTileRows * kTileStep] = {};
    for (std::size_t r = 0; r < rows; ++r) {
      std::uint8_t codes[kBlock];
      unpack_block<Bits>(m, m.codes + (first + r) * m.row_bytes, b, codes);
      for (std::size_t t = 0; t < kTileSteps; ++t) {
        __builtin_memcpy(steps[t] + r * kTileStep, codes + t * kTileStep, kTileStep);
      }
    }
    unsigned at = 0;
    for (unsigned width = 8; width > 0; width /= 2) {
      if ((Bits & width) == 0) continue;
      const unsigned per = 8 / width, mask = (1u << width) - 1;
      for (std::size_t t = 0; t < kTileSteps; t += per, out += 64) {
        for (std::size_t i = 0; i < 64; ++i) {
          unsigned byte = 0;
          for (unsigned s = 0; s < per; ++s) {
            byte |= (steps[t + s][i] >> at & mask) << (s * width);
          }
          out[i] = static_cast<std::uint8_t>(byte);
        }
      }
      at += width;
    }
  }
}

// --- products ------------------------------------------------------------------------------

/// A step's elements of the input, in every lane.
inline Vector step_of(const std::int8_t* p) {
  std::int32_t four = 0;
  __builtin_memcpy(&four, p, kTileStep);
  return all(four);
}

#if defined(SQUISH_ISA_avx512)

/// A step of the input.
template <int Bits>
struct Factor {
  Vector x, rest;
  Factor(const IntInput& in, std::size_t column) {
    x = step_of(in.x + column);
    if constexpr (kRest<Bits>) rest = step_of(in.rest + column);
  }
};

/// Sums over the steps of a piece; two of each, since one would wait for itself.
template <int Bits, unsigned Steps>
struct Sums {
  Vector x[2]{}, rest[2]{};

  void add(Vector codes, const Factor<Bits>& factor, unsigned step) {
    Vector& sum = x[step % 2];
    sum = _mm512_dpbusd_epi32(sum, codes, factor.x);
    if constexpr (kRest<Bits>) {
      rest[step % 2] = _mm512_dpbusd_epi32(rest[step % 2], codes, factor.rest);
    }
  }
  Vector total() const {
    const Vector sum = _mm512_add_epi32(x[0], x[1]);
    if constexpr (!kRest<Bits>) return sum;
    return _mm512_add_epi32(_mm512_slli_epi32(sum, kRestBits), _mm512_add_epi32(rest[0], rest[1]));
  }
};

#else

/// A step of the input, as dot products want it.
template <int Bits>
struct Half {
  Vector x;
  explicit Half(const std::int8_t* p) : x(step_of(p)) {}
};

/// Not even two products of 8 bits fit 16.
template <>
struct Half<8> {
  Vector even, odd;
  explicit Half(const std::int8_t* p) {
    const Vector x = step_of(p);
    even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
    odd = _mm256_srai_epi16(x, 8);
  }
};

template <int Bits>
struct Factor {
  Half<Bits> x, rest;
  Factor(const IntInput& in, std::size_t column)
      : x(in.x + column), rest((kRest<Bits> ? in.rest : in.x) + column) {}
};

/// Steps whose pairs of products add up in 16 bits.
template <int Bits>
constexpr unsigned kInPairs = Bits <= 4 ? 8 : 1 << (7 - Bits);

/// Sums over the steps of a piece of one of the input's halves.
template <int Bits, unsigned Steps>
struct HalfSum {
  Vector pairs{}, sum{};

  void add(Vector codes, const Half<Bits>& factor, unsigned step) {
    if constexpr (Bits == 8) {
      const Vector low = _mm256_and_si256(codes, _mm256_set1_epi16(255));
      const Vector high = _mm256_srli_epi16(codes, 8);
      sum = _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(low, factor.even),
                                                   _mm256_madd_epi16(high, factor.odd)));
    } else {
      const Vector products = _mm256_maddubs_epi16(codes, factor.x);
      pairs = step % kInPairs<Bits> == 0 ? products : _mm256_add_epi16(pairs, products);
      if (step % kInPairs<Bits> != kInPairs<Bits> - 1 && step != Steps - 1) return;
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
  }
};

template <int Bits, unsigned Steps>
struct Sums {
  HalfSum<Bits, Steps> x, rest;

  void add(Vector codes, const Factor<Bits>& factor, unsigned step) {
    x.add(codes, factor.x, step);
    if constexpr (kRest<Bits>) rest.add(codes, factor.rest, step);
  }
  Vector total() const {
    if constexpr (!kRest<Bits>) return x.sum;
    return _mm256_add_epi32(_mm256_slli_epi32(x.sum, kRestBits), rest.sum);
  }
};

#endif

/// Scales or zeros of the lanes of a tile's vector.
Floats load_values(const std::uint8_t* values, std::size_t i, bool half) {
  return half ? load_halves(values + 2 * i)
              : SQUISH_VECTOR(loadu_ps)(reinterpret_cast<const float*>(values) + i);
}

/// `Tiles` of them from `tile` on; `y` has room for their rows.
template <int Bits, unsigned Steps, std::size_t Tiles>
void multiply_tiles(const IntTiles& m, const IntInput& in, std::size_t tile, float* y) {
  constexpr std::size_t kVectors = Tiles * kTileVectors, kPieces = kTileSteps / Steps;
  const std::uint8_t* codes[kVectors];
  std::size_t value[kVectors];  // where the first group's are
  Floats totals[kVectors] = {};
  for (std::size_t v = 0; v < kVectors; ++v) {
    const std::size_t at = tile + v / kTileVectors, lane = v % kTileVectors * kLanes;
    codes[v] = m.codes + at * m.blocks * block_bytes(Bits) + lane * kTileStep;
    value[v] = at * m.groups * kTileRows + lane;
  }
  for (std::size_t b = 0; b < m.blocks; ++b) {
#pragma GCC unroll 4
    for (std::size_t piece = 0; piece < kPieces; ++piece) {
      Sums<Bits, Steps> sums[kVectors];
#pragma GCC unroll 16
      for (unsigned t = 0; t < Steps; ++t) {
        const unsigned step = static_cast<unsigned>(piece) * Steps + t;
        const Factor<Bits> factor(in, b * kBlock + step * kTileStep);
#pragma GCC unroll 2
        for (std::size_t v = 0; v < kVectors; ++v) {
          sums[v].add(step_codes<Bits>(codes[v], step), factor, t);
        }
      }
      const std::size_t at = b * kPieces + piece, group = m.piece_group[at] * kTileRows;
      const Vector offset = all(in.offset[at]);
      for (std::size_t v = 0; v < kVectors; ++v) {
        const Vector sum = SQUISH_VECTOR(add_epi32)(sums[v].total(), offset);
        const Floats scale = load_values(m.scale, value[v] + group, m.half);
        totals[v] += SQUISH_VECTOR(cvtepi32_ps)(sum) * all(in.scale[b]) * scale;
      }
    }
    for (std::size_t v = 0; v < kVectors; ++v) codes[v] += block_bytes(Bits);
  }
  for (std::size_t g = 0; m.zero != nullptr && g < m.groups; ++g) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      totals[v] += load_values(m.zero, value[v] + g * kTileRows, m.half) * all(in.sum[g]);
    }
  }
  for (std::size_t v = 0; v < kVectors; ++v) SQUISH_VECTOR(storeu_ps)(y + v * kLanes, totals[v]);
}

template <int Bits, unsigned Steps>
void multiply(const IntTiles& m, const IntInput& in, std::size_t begin, std::size_t end, float* y) {
  std::size_t row = begin;
  for (; row + kTiles * kTileRows <= end; row += kTiles * kTileRows) {
    multiply_tiles<Bits, Steps, kTiles>(m, in, row / kTileRows, y + row);
  }
  for (; row < end; row += kTileRows) {
    float rows[kTileRows];
    multiply_tiles<Bits, Steps, 1>(m, in, row / kTileRows, rows);
    for (std::size_t r = 0; r < smaller(kTileRows, end - row); ++r) y[row + r] = rows[r];
  }
}

/// Columns of the shortest piece.
constexpr std::size_t kQuarter = kBlock / 4;

#if defined(SQUISH_ISA_avx512)

/// A block's codes, row by row.
template <int Bits>
void unpack_tile(const std::uint8_t* p, std::uint8_t (*rows)[kBlock]) {
  Vector v[kTileRows], w[kTileRows];
#pragma GCC unroll 16
  for (unsigned t = 0; t < kTileSteps; ++t) v[t] = step_codes<Bits>(p, t);
  const Vector low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const Vector high = _mm512_add_epi32(low, all(8));
  // Each pass moves one bit of a lane's number to the vector's and one back.
#pragma GCC unroll 4
  for (int pass = 0; pass < 4; ++pass) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i) {
      w[2 * i] = _mm512_permutex2var_epi32(v[i], low, v[i + 8]);
      w[2 * i + 1] = _mm512_permutex2var_epi32(v[i], high, v[i + 8]);
    }
    for (std::size_t i = 0; i < kTileRows; ++i) v[i] = w[i];
  }
  for (std::size_t r = 0; r < kTileRows; ++r) _mm512_storeu_si512(rows[r], v[r]);
}

#else

template <int Bits>
void unpack_tile(const std::uint8_t* p, std::uint8_t (*rows)[kBlock]) {
#pragma GCC unroll 16
  for (unsigned t = 0; t < kTileSteps; ++t) {
    for (std::size_t v = 0; v < kTileVectors; ++v) {
      std::uint8_t lanes[sizeof(Vector)];
      _mm256_storeu_si256(reinterpret_cast<Vector*>(lanes),
                          step_codes<Bits>(p + v * sizeof(Vector), t));
      for (std::size_t l = 0; l < kLanes; ++l) {
        __builtin_memcpy(rows[v * kLanes + l] + t * kTileStep, lanes + l * kTileStep, kTileStep);
      }
    }
  }
}

#endif

/// values[0 .. n) of kQuarter.
inline void widen(const std::uint8_t* codes, float scale, float offset, std::size_t n,
                  float* values) {
  float all_values[kQuarter];
  for (std::size_t i = 0; i < kQuarter; ++i) {
    all_values[i] = scale * static_cast<float>(static_cast<int>(codes[i])) + offset;
  }
  if (n >= kQuarter) {
    __builtin_memcpy(values, all_values, sizeof(all_values));
  } else {
    __builtin_memcpy(values, all_values, n * sizeof(float));
  }
}

template <int Bits>
void decode(const IntTiles& m, float low, std::size_t begin, std::size_t end, float* rows) {
  const std::size_t pieces = kTileSteps / m.steps;
  for (std::size_t row = begin; row < end; row += kTileRows) {
    const std::size_t tile = row / kTileRows;
    for (std::size_t b = 0; b < m.blocks; ++b) {
      alignas(64) std::uint8_t codes[kTileRows][kBlock];
      unpack_tile<Bits>(m.codes + (tile * m.blocks + b) * block_bytes(Bits), codes);
      float scale[4][kTileRows], offset[4][kTileRows];
      for (std::size_t piece = 0; piece < pieces; ++piece) {
        const std::size_t group = m.piece_group[b * pieces + piece];
        for (std::size_t lane = 0; lane < kTileRows; lane += kLanes) {
          const std::size_t at = (tile * m.groups + group) * kTileRows + lane;
          const Floats scales = load_values(m.scale, at, m.half);
          SQUISH_VECTOR(storeu_ps)(scale[piece] + lane, scales);
          SQUISH_VECTOR(storeu_ps)
          (offset[piece] + lane,
           m.zero == nullptr ? scales * all(low) : load_values(m.zero, at, m.half));
        }
      }
      for (std::size_t r = 0; r < smaller(kTileRows, end - row); ++r) {
        float* const to = rows + (row - begin + r) * m.cols + b * kBlock;
        const std::size_t columns = smaller(kBlock, m.cols - b * kBlock);
        for (std::size_t j = 0; j < columns; j += kQuarter) {
          const std::size_t piece = j / kTileStep / m.steps;
          widen(codes[r] + j, scale[piece][r], offset[piece][r], columns - j, to + j);
        }
      }
    }
  }
}

template <int Bits>
constexpr auto multiply_4 = multiply<Bits, 4>;
template <int Bits>
constexpr auto multiply_8 = multiply<Bits, 8>;
template <int Bits>
constexpr auto multiply_16 = multiply<Bits, 16>;

}  // namespace

const IntTileOps kIntTileOps = {
    true,
    SQUISH_ALL_BITS(arrange),
    {SQUISH_ALL_BITS(multiply_4), SQUISH_ALL_BITS(multiply_8), SQUISH_ALL_BITS(multiply_16)},
    SQUISH_ALL_BITS(decode)};

#endif

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
