#include "squish/model/divergence.isa.h"

namespace squish::model::SQUISH_ISA_NAMESPACE {
namespace {

// By the bits: an all-ones exponent is infinity or NaN, and no compiler flag argues it away.
bool finite(const float* x, std::size_t n) {
  unsigned found = 0;
#pragma omp simd reduction(| : found)
  for (std::size_t i = 0; i < n; ++i) {
    const unsigned exponent = __builtin_bit_cast(unsigned, x[i]) & 0x7f800000u;
    found |= exponent == 0x7f800000u ? 1u : 0u;
  }
  return found == 0;
}

double weighted_difference(const float* p, const float* a, double a_shift, const float* b,
                           double b_shift, std::size_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < n; ++i) {
    const double x = a[i], y = b[i];
    sum += p[i] * ((x - a_shift) - (y - b_shift));
  }
  return sum;
}

}  // namespace

extern const DivergenceOps kDivergenceOps;
const DivergenceOps kDivergenceOps = {finite, weighted_difference};

}  // namespace squish::model::SQUISH_ISA_NAMESPACE
