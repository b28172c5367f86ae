#pragma once
#include <cstdint>

namespace squish {

/// IEEE 754 binary16 and bfloat16, round to nearest even; NaN stays NaN, overflow becomes infinity.
std::uint16_t to_f16(float x);
float from_f16(std::uint16_t h);
std::uint16_t to_bf16(float x);
float from_bf16(std::uint16_t b);

}  // namespace squish
