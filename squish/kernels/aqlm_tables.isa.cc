#include "squish/kernels/aqlm_tables.isa.h"

#include "squish/base/lanes.isa.h"

#if defined(SQUISH_ISA_avx512vbmi)
#include "squish/kernels/byte_table.isa.h"
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {

extern const AqlmTableOps kAqlmTableOps;

#if !defined(SQUISH_ISA_avx512vbmi)

const AqlmTableOps kAqlmTableOps = {};

#else

namespace {

using squish::SQUISH_ISA_NAMESPACE::Floats;
using squish::SQUISH_ISA_NAMESPACE::kLanes;
using squish::SQUISH_ISA_NAMESPACE::smaller;

typedef __m512i Vector;

constexpr std::size_t kEntryVectors = kTableEntries / kLanes;
constexpr float kLargestSum = 32767 - 8;  // each of as many terms may be rounded up
constexpr float kLeast = 1e-15f;          // that is told from 0: it was a square of floats

Vector load(const void* p) { return _mm512_load_si512(p); }

float square_root(float v) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(v))); }

/// Low bytes to `table`, high ones behind them, of 64 integers.
void store_bytes(const Vector* v, std::uint8_t* table) {
  alignas(64) static constexpr struct Order {
    std::uint8_t bytes[64] = {};
    constexpr Order() {
      for (int i = 0; i < 64; ++i) {
        bytes[i] = static_cast<std::uint8_t>(i % 32 * 4 + i / 32);
      }
    }
  } kOrder;
  const Vector order = load(kOrder.bytes);
  const Vector first = _mm512_permutex2var_epi8(v[0], order, v[1]);
  const Vector second = _mm512_permutex2var_epi8(v[2], order, v[3]);
  _mm512_store_si512(table, _mm512_shuffle_i64x2(first, second, 0x44));
  _mm512_store_si512(table + kTableEntries, _mm512_shuffle_i64x2(first, second, 0xee));
}

/// The table of one book, of which x, over the group's scale, is what entries meet.
void fill(const AqlmTables& m, const float* columns, const float* x, std::uint8_t* table) {
  Floats sums[kEntryVectors] = {};
  for (std::size_t d = 0; d < m.dim; ++d) {
    const Floats factor = _mm512_set1_ps(x[d]);
#pragma GCC unroll 16
    for (std::size_t e = 0; e < kEntryVectors; ++e) {
      sums[e] += factor * _mm512_load_ps(columns + d * kTableEntries + e * kLanes);
    }
  }
#pragma GCC unroll 4
  for (std::size_t e = 0; e < kEntryVectors; e += 4) {
    Vector rounded[4];
    for (std::size_t i = 0; i < 4; ++i) rounded[i] = _mm512_cvtps_epi32(sums[e + i]);
    store_bytes(rounded, table + e * kLanes);
  }
}

void tabulate(const AqlmTables& m, const float* x, std::uint8_t* tables, float* scales) {
  for (std::size_t g = 0; g < m.groups; ++g, x += m.dim) {
    float square = 0;
    for (std::size_t d = 0; d < m.dim; ++d) square += x[d] * x[d];
    // No entry's product with the group is larger than that of their norms.
    const float largest = square_root(square) * m.norms;
    const bool zero = largest <= kLeast;
    scales[g] = zero ? 0 : largest / kLargestSum;
    const float inverse = zero ? 0 : kLargestSum / largest;
    float scaled[32];
    for (std::size_t d = 0; d < m.dim; ++d) scaled[d] = x[d] * inverse;
    for (std::size_t b = 0; b < m.books; ++b, tables += kTableBytes) {
      fill(m, m.columns + b * m.dim * kTableEntries, scaled, tables);
    }
  }
}

void multiply(const AqlmTables& m, const std::uint8_t* tables, const float* scales,
              std::size_t begin, std::size_t end, float* sums, float* y) {
  const std::size_t first = begin / kTableRows, last = (end + kTableRows - 1) / kTableRows;
  for (std::size_t i = 0; i < (last - first) * kTableRows; ++i) sums[i] = 0;
  for (std::size_t g = 0; g < m.groups; ++g, tables += m.books * kTableBytes) {
    const Floats scale = _mm512_set1_ps(scales[g]);
    const std::uint8_t* codes = m.codes + (g * m.row_blocks + first) * m.books * kTableRows;
    float* to = sums;
    for (std::size_t block = first; block < last; ++block, to += kTableRows) {
      Vector low = _mm512_setzero_si512(), high = low;  // 16 bits, of rows as they lie
      for (std::size_t b = 0; b < m.books; ++b, codes += kTableRows) {
        const std::uint8_t* const table = tables + b * kTableBytes;
        const Vector at = load(codes);
        const Vector lows = ByteTable(table).look_up(at);
        const Vector highs = ByteTable(table + kTableEntries).look_up(at);
        low = _mm512_add_epi16(low, _mm512_unpacklo_epi8(lows, highs));
        high = _mm512_add_epi16(high, _mm512_unpackhi_epi8(lows, highs));
      }
      const Vector quarters[4] = {
          _mm512_srai_epi32(_mm512_slli_epi32(low, 16), 16), _mm512_srai_epi32(low, 16),
          _mm512_srai_epi32(_mm512_slli_epi32(high, 16), 16), _mm512_srai_epi32(high, 16)};
      for (std::size_t q = 0; q < 4; ++q) {
        const Floats sum = _mm512_cvtepi32_ps(quarters[q]);
        _mm512_store_ps(to + q * kLanes, _mm512_load_ps(to + q * kLanes) + sum * scale);
      }
    }
  }
  for (std::size_t row = begin; row < end; ++row) y[row] = sums[row - begin] * m.scales[row];
}

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

void decode(const AqlmTables& m, std::size_t begin, std::size_t end, float* rows) {
  for (std::size_t row = begin; row < end; ++row, rows += m.cols) {
    const std::size_t block = row / kTableRows, lane = lane_of_row(row % kTableRows);
    const std::uint8_t* codes = m.codes + block * m.books * kTableRows + lane;
    for (std::size_t g = 0; g < m.groups; ++g, codes += m.row_blocks * m.books * kTableRows) {
      float* const to = rows + g * m.dim;
      const std::size_t width = smaller(m.dim, m.cols - g * m.dim);
      for (std::size_t d = 0; d < width; d += 8) {
        Eight sum = {};
        for (std::size_t b = 0; b < m.books; ++b) {
          const std::size_t entry = b * kTableEntries + codes[b * kTableRows];
          sum += *reinterpret_cast<const Eight*>(m.entries + entry * m.padded + d);
        }
        sum *= m.scales[row];
        __builtin_memcpy(to + d, &sum, smaller(8, width - d) * sizeof(float));
      }
    }
  }
}

}  // namespace

const AqlmTableOps kAqlmTableOps = {true, tabulate, multiply, decode};

#endif

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
