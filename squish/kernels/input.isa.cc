#include "squish/kernels/input.isa.h"

#include "squish/base/rounded.isa.h"
#include "squish/kernels/constants.h"

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

// Adding 1.5 * 2^23 leaves no bits behind the point, rounded as floats are.
constexpr float kShift = 12582912;

std::int32_t round_block(const float* x, float inverse, std::int8_t* q) {
  std::int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < 64; ++i) {
    // Fused, ties would round otherwise than where there is no such instruction.
    const float shifted = SQUISH_ROUNDED(x[i] * inverse) + kShift;
    const auto whole = static_cast<std::int32_t>(shifted - kShift);
    q[i] = static_cast<std::int8_t>(whole);
    sum += whole;
  }
  return sum;
}

std::int32_t round_rest(const float* x, float inverse, const std::int8_t* q, std::int8_t* rest) {
  std::int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < 64; ++i) {
    const float left = SQUISH_ROUNDED(x[i] * inverse) - static_cast<float>(q[i]);
    const auto whole = static_cast<std::int32_t>(left * (1 << kRestBits) + kShift - kShift);
    const std::int32_t least = whole < 127 ? whole : 127;
    rest[i] = static_cast<std::int8_t>(least);
    sum += least;
  }
  return sum;
}

}  // namespace

extern const InputOps kInputOps;
const InputOps kInputOps = {round_block, round_rest};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
