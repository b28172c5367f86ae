#include "squish/kernels/input.isa.h"

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

float largest(const float* x, std::size_t n) {
  float lanes[16] = {}, differences[16] = {};
  for (std::size_t i = 0; i < n; i += 16) {
#pragma omp simd
    for (std::size_t l = 0; l < 16; ++l) {
      const float size = x[i + l] < 0 ? -x[i + l] : x[i + l];
      lanes[l] = lanes[l] < size ? size : lanes[l];
      differences[l] += x[i + l] - x[i + l];  // NaN unless x is finite
    }
  }
  float most = 0, difference = 0;
  for (const float lane : lanes) most = most < lane ? lane : most;
  for (const float lane : differences) difference += lane;
  return most + difference;
}

std::int32_t round_block(const float* x, float inverse, std::int8_t* q) {
  // Adding 1.5 * 2^23 leaves no bits behind the point, rounded as floats are.
  constexpr float kShift = 12582912;
  std::int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < 64; ++i) {
    // Fused, ties would round otherwise than where there is no such instruction.
    const float shifted = __builtin_assoc_barrier(x[i] * inverse) + kShift;
    const auto whole = static_cast<std::int32_t>(shifted - kShift);
    q[i] = static_cast<std::int8_t>(whole);
    sum += whole;
  }
  return sum;
}

}  // namespace

extern const InputOps kInputOps;
const InputOps kInputOps = {largest, round_block};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
