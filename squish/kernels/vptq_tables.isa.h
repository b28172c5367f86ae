#pragma once
#include <cstddef>
#include <cstdint>

/// Products with matrices of VPTQ whose codebooks have at most 256 entries, by looking up a
/// component of 64 codes at a time; entries are integers of 16 bits there, and inputs of 16.
namespace squish::kernels {

/// Blocks of rows that are worked out together, a 32-bit lane each.
inline constexpr std::size_t kVptqBlocks = 16;
/// Columns that a dot product takes at once.
inline constexpr std::size_t kVptqColumns = 4;
inline constexpr std::size_t kVptqEntries = 256;
/// Entries of a residual book that one shuffle looks up; its codes lie two to a byte.
inline constexpr std::size_t kVptqFew = 16;
/// What is added to an entry, so that it is not negative.
inline constexpr int kVptqOffset = 1 << 15;

struct VptqTables {
  std::size_t cols, dim;
  std::size_t steps;           ///< of kVptqColumns, an even number
  std::size_t residual;        ///< entries of the second book; 1: there is none
  const std::uint8_t* main;    ///< by component kVptqEntries low bytes, then as many high ones
  const std::uint8_t* second;  ///< likewise, or, of at most kVptqFew, 64 each: four times over
  const std::uint8_t* codes;   ///< tile by tile of kVptqBlocks, step by step 64: byte 4 b + j is
                               ///< column j's of block b
  const std::uint8_t* residual_codes;  ///< likewise; of at most kVptqFew entries two steps share
                                       ///< 64 bytes, the first has the low halves
  const float* books[2];               ///< entry by entry, of `dim` components
  const float* scales;                 ///< by column

  bool few() const { return residual <= kVptqFew; }
  std::size_t residual_bytes() const {  // of a tile
    return residual == 1 ? 0 : few() ? steps / 2 * 64 : steps * 64;
  }
};

struct VptqTableOps {
  bool usable;  ///< false: there is nothing else
  /// Sums over the columns of the tiles of rows [begin, end), where begin is a multiple of
  /// kVptqBlocks * dim: y = unit * (x + rest / 2 ^ kRestBits) . entries, in units of theirs.
  /// sum_x and sum_rest are those of x and rest, which are padded with zeros to whole steps.
  void (*multiply)(const VptqTables& m, const std::int8_t* x, const std::int8_t* rest,
                   std::int32_t sum_x, std::int32_t sum_rest, float unit, std::size_t begin,
                   std::size_t end, float* y);
  /// Rows [begin, end) one after the other; begin as above.
  void (*decode)(const VptqTables& m, std::size_t begin, std::size_t end, float* rows);
};

}  // namespace squish::kernels
