#pragma once
#include <cstddef>
#include <cstdint>

/// The loops of make_input(), one table per instruction set.
namespace squish::kernels {

struct InputOps {
  /// q[i] = x[i] * inverse to the nearest, ties to even, for a block of 64; the sum of them.
  std::int32_t (*round_block)(const float* x, float inverse, std::int8_t* q);
  /// The same of what q leaves, in units of 2 ^ -kRestBits, at most 127 of them.
  std::int32_t (*round_rest)(const float* x, float inverse, const std::int8_t* q,
                             std::int8_t* rest);
};

}  // namespace squish::kernels
