#pragma once
#include <cstddef>
#include <cstdint>

/// Products of several tokens with decoded rows, both rounded to BF16 and added up in f32: one
/// table of loops for AVX512-BF16 and one for AMX. Both operands lie in tiles of kPanelTile rows by
/// kPanelDepth columns, those of the same rows one after the other, padded with zeros.
namespace squish::kernels {

inline constexpr std::size_t kPanelTile = 16, kPanelDepth = 32;

/// Values of a tile.
inline constexpr std::size_t kPanelTileSize = kPanelTile * kPanelDepth;

struct PanelOps {
  /// Up to kPanelTile tokens of `cols` values each into their tiles, row by row.
  /// So many rows of the matrix into theirs, pair of columns by pair of columns.
  typedef void (*Pack)(const float* values, std::size_t n, std::size_t cols, std::size_t stride,
                       std::uint16_t* tiles);
  Pack pack_tokens, pack_rows;

  /// y[t * stride + i] = x[t] · row[i]; `depth` is the number of a row's tiles.
  void (*multiply)(const std::uint16_t* x, std::size_t tokens, const std::uint16_t* rows,
                   std::size_t n, std::size_t depth, float* y, std::size_t stride);
};

}  // namespace squish::kernels
