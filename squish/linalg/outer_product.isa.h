#pragma once
#include <cstddef>

/// The loops of outer_product.cc, one table per instruction set (squish/base/isa.h).
namespace squish::linalg {

struct SumOps {
  /// sum[i] += x[i].
  void (*add)(const float* x, std::size_t n, double* sum);
  /// Whether all of x[i] are in +-limit; NaN is not.
  bool (*within)(const float* x, std::size_t n, float limit);
};

const SumOps& sum_ops();

}  // namespace squish::linalg
