#pragma once
#include <cstddef>
#include <cstdint>

/// Rounding of inputs to 8 bits, one table of loops per instruction set.
namespace squish::kernels {

struct InputOps {
  /// `blocks` blocks of 64 of x: q = x / scale to nearest, ties to even, the sum of q and the scale
  /// for each block, which brings the largest magnitude of the block, or of all, to 127. The same
  /// on all instruction sets.
  void (*round)(const float* x, std::size_t blocks, bool scale_by_block, std::int8_t* q,
                float* scale, std::int32_t* sum);
};

}  // namespace squish::kernels
