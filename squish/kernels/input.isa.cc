#include "squish/kernels/input.isa.h"

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

constexpr std::size_t kBlock = 64;

float largest(const float* x, std::size_t n) {
  std::int32_t largest_bits = 0;  // their order is that of the magnitudes
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t bits = __builtin_bit_cast(std::int32_t, x[i]) & 0x7fffffff;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  return __builtin_bit_cast(float, largest_bits);
}

void round(const float* x, std::size_t blocks, bool scale_by_block, std::int8_t* q, float* scale,
           std::int32_t* sum) {
  const float all = scale_by_block ? 0 : largest(x, blocks * kBlock);
  for (std::size_t b = 0; b < blocks; ++b, x += kBlock, q += kBlock) {
    scale[b] = (scale_by_block ? largest(x, kBlock) : all) / 127;
    const float inverse = scale[b] > 0 ? 1 / scale[b] : 0;
    std::int32_t total = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const int nearest = __builtin_irintf(x[i] * inverse);
      q[i] = static_cast<std::int8_t>(nearest);
      total += q[i];
    }
    sum[b] = total;
  }
}

}  // namespace

extern const InputOps kInputOps;
const InputOps kInputOps = {round};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
