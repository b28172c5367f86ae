#pragma once
#include <cstddef>
#include <cstdint>

#include "squish/kernels/constants.h"

/// Products with INT matrices (squish/quant/int.cc), one table of loops per instruction set.
namespace squish::kernels {

/// What is read by the vector is padded to a multiple of this many elements.
inline constexpr std::size_t kIntPadding = 16;

struct IntMatrix {
  std::size_t rows, cols, blocks, group, groups;
  const std::uint8_t* codes;
  std::size_t code_bytes, row_bytes;
  const std::uint8_t* scale;  ///< f16 or f32, `groups` a row
  const std::uint8_t* zero;   ///< like scale; null: symmetric
  bool half;
  const std::int32_t* block_group;  ///< of each block's first column, padded
  /// By vector of an ordered block: its first group, and how much further that of each lane is.
  const std::uint32_t* vector_group;
  const std::uint8_t* lane_group;
};

struct IntInput {
  const std::int8_t *x, *rest;                  ///< whole blocks
  const std::int8_t *ordered_x, *ordered_rest;  ///< by IntOps::order
  const float* scale;  ///< by block, padded with zeros: of x, of rest where that is read
  const float* sum;    ///< by group, padded with zeros: what a row's zero is multiplied by, or its
                       ///< scale where there is none
};

struct IntOps {
  /// y[begin .. end), where begin is a multiple of kRows. `scratch` has kRows rows of
  /// `stride` floats, kIntPadding more than a matrix's row has blocks or groups.
  typedef void (*Multiply)(const IntMatrix& matrix, const IntInput& input, std::size_t begin,
                           std::size_t end, float* scratch, std::size_t stride, float* y);

  std::size_t lanes;  ///< of 32 bits, of a vector; 0: all functions are `any`
  /// Each block's columns in the order in which vectors get at them: 4 bits are 0 2 4 .., 1 3 5 ..,
  /// 2 bits 0 4 8 .., 1 5 9 .. and so on; other widths as they are.
  void (*order)(unsigned bits, const std::int8_t* x, std::size_t blocks, std::int8_t* ordered);
  /// By bits - 2. For matrices whose blocks each lie in one group; the four columns of each lane of
  /// whose blocks do; any.
  Multiply whole[7], split[7], any[7];

  /// By bits - 2: rows [begin, end) one after the other; `low` is what a symmetric code begins at.
  void (*decode[7])(const IntMatrix& matrix, float low, std::size_t begin, std::size_t end,
                    float* rows);
};

}  // namespace squish::kernels
