#pragma once
#include <cstddef>
#include <cstdint>

/// Vector loops on floats, one table per instruction set (squish/base/isa.h).
namespace squish::linalg {

struct VectorOps {
  float (*dot)(const float* a, const float* b, std::size_t n);
  /// y += a * x.
  void (*axpy)(float a, const float* x, std::size_t n, float* y);
  /// x[i] *= factors[i].
  void (*scale)(const float* factors, std::size_t n, float* x);
  /// y[i] += factor * (v[i] - offset), rounded twice on all instruction sets.
  void (*add_integers)(float factor, const std::int32_t* v, std::int32_t offset, std::size_t n,
                       float* y);
  /// y[i] = w[i] . x for the rows of w, which begin `stride` apart.
  void (*matvec)(const float* w, std::size_t rows, std::size_t cols, std::size_t stride,
                 const float* x, float* y);
  /// The largest element; n > 0.
  float (*max)(const float* x, std::size_t n);
  /// The largest magnitude, 0 of no elements; not finite unless all are.
  float (*largest_magnitude)(const float* x, std::size_t n);
  /// out[i] = exp(scale * x[i] - shift), within 3 ulp (no smaller than 1e-38); the sum of them,
  /// accumulated in double every 1024. `out` may be `x`.
  double (*exp_sum)(const float* x, std::size_t n, float scale, float shift, float* out);
  /// out = x / sqrt(mean(x^2) + eps) * weight. `out` may be `x`.
  void (*rms_norm)(const float* x, const float* weight, std::size_t n, float eps, float* out);
  /// gate[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x)).
  void (*silu_mul)(float* gate, const float* up, std::size_t n);
  /// Rotates the pairs (x[i], x[i + n]) by the angles whose cosines and sines are given.
  void (*rotate)(float* x, const float* cos, const float* sin, std::size_t n);
};

const VectorOps& vector_ops();

}  // namespace squish::linalg
