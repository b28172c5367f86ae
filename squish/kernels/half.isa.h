#pragma once
#include <cstddef>

#include "squish/kernels/constants.h"

/// Products with matrices of floats and half floats, one table of loops per instruction set.
namespace squish::kernels {

struct HalfOps {
  /// y[begin .. end) of the product of `values`, `cols` a row, with x, which is padded with zeros
  /// to whole vectors; begin is a multiple of kRows.
  typedef void (*Multiply)(const std::byte* values, std::size_t cols, const float* x,
                           std::size_t begin, std::size_t end, float* y);
  Multiply f32, f16, bf16;
};

}  // namespace squish::kernels
