#include "squish/kernels/vptq_tables.isa.h"

#include "squish/base/lanes.isa.h"
#include "squish/kernels/constants.h"

#if defined(SQUISH_ISA_avx512vbmi)
#include "squish/kernels/byte_table.isa.h"
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {

extern const VptqTableOps kVptqTableOps;

#if !defined(SQUISH_ISA_avx512vbmi)

const VptqTableOps kVptqTableOps = {};

#else

namespace {

using squish::SQUISH_ISA_NAMESPACE::smaller;

typedef __m512i Vector;

constexpr std::size_t kTogether = 4;  // components whose sums are in registers

Vector load(const std::uint8_t* p) { return _mm512_load_si512(p); }

Vector four_of(const std::int8_t* p) {
  std::int32_t four = 0;
  __builtin_memcpy(&four, p, sizeof(four));
  return _mm512_set1_epi32(four);
}

/// Products with the input and with what it leaves.
struct Sums {
  Vector low{}, high{}, rest_low{}, rest_high{};

  void add(Vector lows, Vector highs, Vector x, Vector rest) {
    low = _mm512_dpbusd_epi32(low, lows, x);
    high = _mm512_dpbusd_epi32(high, highs, x);
    rest_low = _mm512_dpbusd_epi32(rest_low, lows, rest);
    rest_high = _mm512_dpbusd_epi32(rest_high, highs, rest);
  }
};

enum class Second { none, few, many };

template <Second Residual>
void sum_tile(const VptqTables& m, const std::uint8_t* codes, const std::uint8_t* residuals,
              const std::int8_t* x, const std::int8_t* rest, std::size_t component, Sums* sums) {
  const std::uint8_t* const main = m.main + component * 2 * kVptqEntries;
  constexpr std::size_t kSecond = Residual == Second::few ? 64 : kVptqEntries;
  const std::uint8_t* const second = m.second + component * 2 * kSecond;
  Sums s[kTogether];
  for (std::size_t step = 0; step < m.steps; ++step) {
    const Vector at = load(codes + 64 * step);
    const Vector four = four_of(x + step * kVptqColumns);
    const Vector four_rest = four_of(rest + step * kVptqColumns);
    Vector also{};
    if constexpr (Residual == Second::few) {
      const Vector two = load(residuals + step / 2 * 64);
      const Vector halves = step % 2 == 0 ? two : _mm512_srli_epi16(two, 4);
      also = _mm512_and_si512(halves, _mm512_set1_epi8(15));
    } else if constexpr (Residual == Second::many) {
      also = load(residuals + 64 * step);
    }
#pragma GCC unroll 4
    for (std::size_t i = 0; i < kTogether; ++i) {
      const std::uint8_t* const table = main + i * 2 * kVptqEntries;
      s[i].add(ByteTable(table).look_up(at), ByteTable(table + kVptqEntries).look_up(at), four,
               four_rest);
      const std::uint8_t* const other = second + i * 2 * kSecond;
      if constexpr (Residual == Second::few) {
        s[i].add(_mm512_shuffle_epi8(load(other), also),
                 _mm512_shuffle_epi8(load(other + kSecond), also), four, four_rest);
      } else if constexpr (Residual == Second::many) {
        s[i].add(ByteTable(other).look_up(also), ByteTable(other + kSecond).look_up(also), four,
                 four_rest);
      }
    }
  }
  for (std::size_t i = 0; i < kTogether; ++i) sums[i] = s[i];
}

/// 256 high + low, less what the entries' offset comes to.
__m512 total(Vector low, Vector high, std::int32_t offset) {
  const Vector highs = _mm512_sub_epi32(high, _mm512_set1_epi32(offset));
  return _mm512_cvtepi32_ps(low) + _mm512_set1_ps(256) * _mm512_cvtepi32_ps(highs);
}

void multiply(const VptqTables& m, const std::int8_t* x, const std::int8_t* rest,
              std::int32_t sum_x, std::int32_t sum_rest, float unit, std::size_t begin,
              std::size_t end, float* y) {
  const std::int32_t offset = (m.residual == 1 ? 1 : 2) * (kVptqOffset / 256);
  const auto sum = m.residual == 1 ? sum_tile<Second::none>
                   : m.few()       ? sum_tile<Second::few>
                                   : sum_tile<Second::many>;
  const std::size_t tile_rows = kVptqBlocks * m.dim;
  for (std::size_t row = begin; row < end; row += tile_rows) {
    const std::size_t tile = row / tile_rows;
    const std::uint8_t* const codes = m.codes + tile * m.steps * 64;
    const std::uint8_t* const residuals = m.residual_codes + tile * m.residual_bytes();
    for (std::size_t d = 0; d < m.dim; d += kTogether) {
      Sums sums[kTogether];
      sum(m, codes, residuals, x, rest, d, sums);
      for (std::size_t i = 0; i < kTogether && d + i < m.dim; ++i) {
        const __m512 whole = total(sums[i].low, sums[i].high, offset * sum_x);
        const __m512 left = total(sums[i].rest_low, sums[i].rest_high, offset * sum_rest);
        alignas(64) float values[kVptqBlocks];
        _mm512_store_ps(values, (whole + left * _mm512_set1_ps(1.0f / (1 << kRestBits))) *
                                    _mm512_set1_ps(unit));
        for (std::size_t b = 0; b < kVptqBlocks; ++b) {
          const std::size_t at = row + b * m.dim + d + i;
          if (at < end) y[at] = values[b];
        }
      }
    }
  }
}

void decode(const VptqTables& m, std::size_t begin, std::size_t end, float* rows) {
  const std::size_t tile_rows = kVptqBlocks * m.dim;
  for (std::size_t first = begin; first < end; first += m.dim, rows += m.dim * m.cols) {
    const std::size_t tile = first / tile_rows, block = first / m.dim % kVptqBlocks;
    const std::uint8_t* const codes = m.codes + tile * m.steps * 64 + block * kVptqColumns;
    const std::uint8_t* const residuals =
        m.residual_codes + tile * m.residual_bytes() + block * kVptqColumns;
    const std::size_t height = smaller(m.dim, end - first);
    for (std::size_t j = 0; j < m.cols; ++j) {
      const std::size_t step = j / kVptqColumns, i = j % kVptqColumns;
      const float* const entry = m.books[0] + codes[64 * step + i] * m.dim;
      std::size_t also = 0;
      if (m.residual > 1 && m.few()) {
        also = residuals[step / 2 * 64 + i] >> (step % 2 * 4) & 15;
      } else if (m.residual > 1) {
        also = residuals[64 * step + i];
      }
      const float* const other = m.books[1] + also * m.dim;
      for (std::size_t d = 0; d < height; ++d) {
        const float value = m.residual > 1 ? entry[d] + other[d] : entry[d];
        rows[d * m.cols + j] = m.scales[j] * value;
      }
    }
  }
}

}  // namespace

const VptqTableOps kVptqTableOps = {true, multiply, decode};

#endif

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
