#pragma once
#include <cstddef>

/// The loops over logits that divergence.cc needs beside those of linalg, one table per instruction
/// set (squish/base/isa.h).
namespace squish::model {

struct DivergenceOps {
  /// Whether every element is finite.
  bool (*finite)(const float* x, std::size_t n);
  /// Sum of p[i] * ((a[i] - a_shift) - (b[i] - b_shift)), in double.
  double (*weighted_difference)(const float* p, const float* a, double a_shift, const float* b,
                                double b_shift, std::size_t n);
};

const DivergenceOps& divergence_ops();

}  // namespace squish::model
