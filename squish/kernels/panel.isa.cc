#include "squish/kernels/panel.isa.h"

#include <immintrin.h>

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

__mmask16 first_lanes(std::size_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1);
}

/// Columns [at, at + kPanelDepth) of a row, zeros behind the last.
__m512i load_bf16(const float* row, std::size_t at, std::size_t cols) {
  const std::size_t left = cols - at;
  const __m512 low = _mm512_maskz_loadu_ps(first_lanes(left), row + at);
  const __m512 high = _mm512_maskz_loadu_ps(first_lanes(left < 16 ? 0 : left - 16), row + at + 16);
  const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
  __m512i bits;
  __builtin_memcpy(&bits, &both, sizeof(bits));
  return bits;
}

void pack_tokens(const float* values, std::size_t n, std::size_t cols, std::size_t stride,
                 std::uint16_t* tiles) {
  for (std::size_t at = 0; at < cols; at += kPanelDepth, tiles += kPanelTileSize) {
    for (std::size_t i = 0; i < kPanelTile; ++i) {
      const __m512i v = i < n ? load_bf16(values + i * stride, at, cols) : _mm512_setzero_si512();
      _mm512_storeu_si512(tiles + i * kPanelDepth, v);
    }
  }
}

/// Rows and columns of 32-bit elements change places.
void transpose(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  // In each 128 bits, four rows' elements of one column.
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512i even_low = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    t[i] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    t[i + 8] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    t[i + 12] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

void pack_rows(const float* values, std::size_t n, std::size_t cols, std::size_t stride,
               std::uint16_t* tiles) {
  for (std::size_t at = 0; at < cols; at += kPanelDepth, tiles += kPanelTileSize) {
    __m512i v[16];
    for (std::size_t i = 0; i < kPanelTile; ++i) {
      v[i] = i < n ? load_bf16(values + i * stride, at, cols) : _mm512_setzero_si512();
    }
    transpose(v);
    for (std::size_t i = 0; i < 16; ++i) _mm512_storeu_si512(tiles + i * kPanelDepth, v[i]);
  }
}

std::size_t tiles_of(std::size_t n) { return (n + kPanelTile - 1) / kPanelTile; }

/// Where a tile of y begins, and how much of it there is.
struct Target {
  float* y;
  std::size_t stride, tokens, rows;
};

Target target(float* y, std::size_t stride, std::size_t tokens, std::size_t n, std::size_t t,
              std::size_t r) {
  const std::size_t first_token = t * kPanelTile, first_row = r * kPanelTile;
  return {y + first_token * stride + first_row, stride, tokens - first_token, n - first_row};
}

#if defined(SQUISH_ISA_amx)

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};
  std::uint8_t rows[16] = {};
};

/// A tile's number becomes part of an instruction's text.
template <int Tile>
void put(float* to, std::size_t stride) {
  const std::size_t bytes = stride * sizeof(float);
  if constexpr (Tile == 0) _tile_stored(0, to, bytes);
  if constexpr (Tile == 1) _tile_stored(1, to, bytes);
  if constexpr (Tile == 2) _tile_stored(2, to, bytes);
  if constexpr (Tile == 3) _tile_stored(3, to, bytes);
}

template <int Tile>
void store(const Target& to) {
  if (to.tokens >= kPanelTile && to.rows >= kPanelTile) return put<Tile>(to.y, to.stride);
  alignas(64) float whole[kPanelTile * kPanelTile];
  put<Tile>(whole, kPanelTile);
  for (std::size_t t = 0; t < kPanelTile && t < to.tokens; ++t) {
    _mm512_mask_storeu_ps(to.y + t * to.stride, first_lanes(to.rows),
                          _mm512_load_ps(whole + t * kPanelTile));
  }
}

/// One or two tiles of tokens by one or two of rows.
template <bool TwoTokens, bool TwoRows>
void multiply_tiles(const std::uint16_t* x, const std::uint16_t* rows, std::size_t depth,
                    const Target (&to)[2][2]) {
  const std::size_t next = depth * kPanelTileSize;
  constexpr int kRow = kPanelDepth * sizeof(std::uint16_t);
  _tile_zero(0);
  if constexpr (TwoRows) _tile_zero(1);
  if constexpr (TwoTokens) _tile_zero(2);
  if constexpr (TwoTokens && TwoRows) _tile_zero(3);
  for (std::size_t k = 0; k < depth; ++k, x += kPanelTileSize, rows += kPanelTileSize) {
    _tile_loadd(4, x, kRow);
    _tile_loadd(6, rows, kRow);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (TwoRows) {
      _tile_loadd(7, rows + next, kRow);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (TwoTokens) {
      _tile_loadd(5, x + next, kRow);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (TwoTokens && TwoRows) _tile_dpbf16ps(3, 5, 7);
  }
  store<0>(to[0][0]);
  if constexpr (TwoRows) store<1>(to[0][1]);
  if constexpr (TwoTokens) store<2>(to[1][0]);
  if constexpr (TwoTokens && TwoRows) store<3>(to[1][1]);
}

void multiply(const std::uint16_t* x, std::size_t tokens, const std::uint16_t* rows, std::size_t n,
              std::size_t depth, float* y, std::size_t stride) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) config.bytes[i] = 64, config.rows[i] = 16;
  _tile_loadconfig(&config);
  asm volatile("" ::: "memory");  // the loads of tiles do not say that they read memory
  const std::size_t token_tiles = tiles_of(tokens), row_tiles = tiles_of(n);
  const std::size_t step = depth * kPanelTileSize;
  for (std::size_t t = 0; t < token_tiles; t += 2) {
    for (std::size_t r = 0; r < row_tiles; r += 2) {
      const Target to[2][2] = {
          {target(y, stride, tokens, n, t, r), target(y, stride, tokens, n, t, r + 1)},
          {target(y, stride, tokens, n, t + 1, r), target(y, stride, tokens, n, t + 1, r + 1)}};
      const std::uint16_t *const from = x + t * step, *const with = rows + r * step;
      const bool two_tokens = t + 1 < token_tiles, two_rows = r + 1 < row_tiles;
      if (two_tokens && two_rows) {
        multiply_tiles<true, true>(from, with, depth, to);
      } else if (two_tokens) {
        multiply_tiles<true, false>(from, with, depth, to);
      } else if (two_rows) {
        multiply_tiles<false, true>(from, with, depth, to);
      } else {
        multiply_tiles<false, false>(from, with, depth, to);
      }
    }
  }
  _tile_release();
}

#else

constexpr std::size_t kTokens = 8;  // whose sums with two tiles' rows stay in registers

template <std::size_t Rows>
void multiply_tiles(const std::uint16_t* x, const std::uint16_t* rows, std::size_t depth,
                    const Target (&to)[2]) {
  const std::size_t next = depth * kPanelTileSize;
  __m512 sums[kTokens][Rows] = {};
  for (std::size_t k = 0; k < depth; ++k, x += kPanelTileSize, rows += kPanelTileSize) {
    for (std::size_t pair = 0; pair < kPanelDepth / 2; ++pair) {
      __m512bh w[Rows];
      for (std::size_t r = 0; r < Rows; ++r) {
        __builtin_memcpy(&w[r], rows + r * next + pair * kPanelDepth, sizeof(w[r]));
      }
      for (std::size_t t = 0; t < kTokens; ++t) {
        std::int32_t two;
        __builtin_memcpy(&two, x + t * kPanelDepth + 2 * pair, sizeof(two));
        __m512i all = _mm512_set1_epi32(two);
#ifdef __clang__
        asm("" : "+v"(all));  // version 16 would look for a constant here until its stack is full
#endif
        __m512bh v;
        __builtin_memcpy(&v, &all, sizeof(v));
        for (std::size_t r = 0; r < Rows; ++r) {
          sums[t][r] = _mm512_dpbf16_ps(sums[t][r], v, w[r]);
        }
      }
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t t = 0; t < kTokens && t < to[r].tokens; ++t) {
      _mm512_mask_storeu_ps(to[r].y + t * to[r].stride, first_lanes(to[r].rows), sums[t][r]);
    }
  }
}

void multiply(const std::uint16_t* x, std::size_t tokens, const std::uint16_t* rows, std::size_t n,
              std::size_t depth, float* y, std::size_t stride) {
  const std::size_t row_tiles = tiles_of(n), step = depth * kPanelTileSize;
  for (std::size_t t = 0; t < tokens; t += kTokens) {
    const std::size_t in_tile = t % kPanelTile;
    const std::uint16_t* const from = x + t / kPanelTile * step + in_tile * kPanelDepth;
    for (std::size_t r = 0; r < row_tiles; r += 2) {
      Target to[2] = {target(y, stride, tokens, n, t / kPanelTile, r),
                      target(y, stride, tokens, n, t / kPanelTile, r + 1)};
      for (Target& half : to) half.y += in_tile * stride, half.tokens -= in_tile;
      if (r + 1 < row_tiles) {
        multiply_tiles<2>(from, rows + r * step, depth, to);
      } else {
        multiply_tiles<1>(from, rows + r * step, depth, to);
      }
    }
  }
}

#endif

}  // namespace

extern const PanelOps kPanelOps;
const PanelOps kPanelOps = {pack_tokens, pack_rows, multiply};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
