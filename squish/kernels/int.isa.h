#pragma once
#include <cstddef>
#include <cstdint>

#include "squish/kernels/constants.h"

/// Products with INT matrices (squish/quant/int.cc), two tables of loops per instruction set: of
/// matrices as they are stored, with groups of any size, and of matrices in tiles.
namespace squish::kernels {

/// As it is stored.
struct IntMatrix {
  std::size_t rows, cols, blocks, group, groups;
  const std::uint8_t* codes;
  std::size_t row_bytes;
  const std::uint8_t* scale;  ///< f16 or f32, `groups` a row
  const std::uint8_t* zero;   ///< like scale; null: symmetric
  bool half;
};

struct IntInput {
  const std::int8_t *x, *rest;  ///< whole blocks
  const float* scale;           ///< by block: of x, of rest where that is read
  const float* sum;  ///< by group: what a row's zero is multiplied by, or its scale where there is
                     ///< none
  const std::int32_t* offset;  ///< by piece of a tile: what the codes' being offset comes to
};

struct IntOps {
  /// y[begin .. end), by bits - 2.
  void (*multiply[7])(const IntMatrix& matrix, const IntInput& input, std::size_t begin,
                      std::size_t end, float* y);
  /// By bits - 2: rows [begin, end) one after the other; `low` is what a symmetric code begins at.
  void (*decode[7])(const IntMatrix& matrix, float low, std::size_t begin, std::size_t end,
                    float* rows);
};

/// Rows of a tile: a 32-bit lane each, so that sums need no adding up across lanes and a tile's
/// codes are one stream.
inline constexpr std::size_t kTileRows = 16;
inline constexpr std::size_t kTileStep = 4;  ///< columns that a dot product takes at once
inline constexpr std::size_t kTileSteps = kBlock / kTileStep;  ///< of a block

/// In tiles: block by block 128 bytes for each bit of a code. A block is planes of 4, 2 or 1 of its
/// codes' bits, the lowest first (3 bits are 2 + 1, 7 are 4 + 2 + 1; 8 are one plane), each of 64
/// bytes for so many steps as share a byte: byte 4 r + i holds, in the step's bits of it, column i
/// of the step in the tile's row r.
struct IntTiles {
  std::size_t cols, blocks, groups;
  std::size_t steps;  ///< of a piece, which lies in one group: 4, 8 or 16
  const std::uint8_t* codes;
  const std::uint8_t* scale;  ///< f16 or f32: tile by tile, by group kTileRows of them
  const std::uint8_t* zero;   ///< like scale; null: symmetric
  bool half;
  const std::uint32_t* piece_group;  ///< by piece, blocks * kTileSteps / steps of them
};

struct IntTileOps {
  bool usable;  ///< false: there is nothing else
  /// By bits - 2: tile `tile` of a matrix; `out` has the blocks' bytes.
  void (*arrange[7])(const IntMatrix& matrix, std::size_t tile, std::uint8_t* out);
  /// y[begin .. end), where begin is a multiple of kTileRows; by log2(steps) - 2 and bits - 2.
  void (*multiply[3][7])(const IntTiles& matrix, const IntInput& input, std::size_t begin,
                         std::size_t end, float* y);
  /// As IntOps::decode, where begin is a multiple of kTileRows.
  void (*decode[7])(const IntTiles& matrix, float low, std::size_t begin, std::size_t end,
                    float* rows);
};

}  // namespace squish::kernels
