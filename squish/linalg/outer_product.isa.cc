#include "squish/linalg/outer_product.isa.h"

namespace squish::linalg::SQUISH_ISA_NAMESPACE {
namespace {

void add(const float* x, std::size_t n, double* sum) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) sum[i] += x[i];
}

bool within(const float* x, std::size_t n, float limit) {
  // By the bits, which order magnitudes as integers do, NaN last.
  const unsigned largest = __builtin_bit_cast(unsigned, limit);
  unsigned found = 0;
#pragma omp simd reduction(| : found)
  for (std::size_t i = 0; i < n; ++i) {
    found |= (__builtin_bit_cast(unsigned, x[i]) & 0x7fffffffu) > largest ? 1u : 0u;
  }
  return found == 0;
}

}  // namespace

extern const SumOps kSumOps;
const SumOps kSumOps = {add, within};

}  // namespace squish::linalg::SQUISH_ISA_NAMESPACE
