#pragma once
#include <cstddef>

/// What kernels and their loops by instruction set agree on.
namespace squish::kernels {

/// Elements of an input that are read together; inputs are padded with zeros to whole blocks.
inline constexpr std::size_t kBlock = 64;

/// Bits a weight up to which 8 bits of the input are enough (docs/performance.md: what they cost).
inline constexpr int kCoarseBits = 2;

/// What 8 bits of an input leave is rounded to units of 2 ^ -kRestBits.
inline constexpr int kRestBits = 8;

}  // namespace squish::kernels
