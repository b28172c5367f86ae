#include "squish/evaluate/divergence.isa.h"

namespace squish::evaluate::SQUISH_ISA_NAMESPACE {
namespace {

float finite(const float* x, std::size_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < n; ++i) sum += 0.0f * x[i];
  return sum;
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

}  // namespace squish::evaluate::SQUISH_ISA_NAMESPACE
