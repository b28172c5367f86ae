#include "squish/linalg/vector_ops.isa.h"

#include "squish/base/rounded.isa.h"

namespace squish::linalg::SQUISH_ISA_NAMESPACE {
namespace {

// Four sums at a time hide the latency of one addition behind the others.
float dot(const float* a, const float* b, std::size_t n) {
  const std::size_t quarter = n / 4;
  const float *a1 = a + quarter, *a2 = a1 + quarter, *a3 = a2 + quarter;
  const float *b1 = b + quarter, *b2 = b1 + quarter, *b3 = b2 + quarter;
  float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
  for (std::size_t i = 0; i < quarter; ++i) {
    s0 += a[i] * b[i];
    s1 += a1[i] * b1[i];
    s2 += a2[i] * b2[i];
    s3 += a3[i] * b3[i];
  }
  for (std::size_t i = 4 * quarter; i < n; ++i) s0 += a[i] * b[i];
  return (s0 + s1) + (s2 + s3);
}

void axpy(float a, const float* x, std::size_t n, float* y) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void matvec(const float* w, std::size_t rows, std::size_t cols, std::size_t stride, const float* x,
            float* y) {
  std::size_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const float *w0 = w + i * stride, *w1 = w0 + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (std::size_t j = 0; j < cols; ++j) {
      s0 += w0[j] * x[j];
      s1 += w1[j] * x[j];
      s2 += w2[j] * x[j];
      s3 += w3[j] * x[j];
    }
    y[i] = s0;
    y[i + 1] = s1;
    y[i + 2] = s2;
    y[i + 3] = s3;
  }
  for (; i < rows; ++i) y[i] = dot(w + i * stride, x, cols);
}

void scale(const float* factors, std::size_t n, float* x) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) x[i] *= factors[i];
}

void add_integers(float factor, const std::int32_t* v, std::int32_t offset, std::size_t n,
                  float* y) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    y[i] += SQUISH_ROUNDED(factor * static_cast<float>(v[i] - offset));
  }
}

float max(const float* x, std::size_t n) {
  float largest = x[0];
#pragma omp simd reduction(max : largest)
  for (std::size_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

float largest_magnitude(const float* x, std::size_t n) {
  std::int32_t largest = 0;  // the order of the bits is that of the magnitudes
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t bits = __builtin_bit_cast(std::int32_t, x[i]) & 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return __builtin_bit_cast(float, largest);
}

// exp(x) = 2^n exp(r), |r| <= ln(2) / 2, ln(2) in two parts, exp(r) by its Taylor series to the
// seventh power (error 5e-9). Clamped to where 2^n is a normal number.
inline float exp_of(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float n = (x * 0x1.715476p+0f + 0x1.8p+23f) - 0x1.8p+23f;  // nearest integer to x / ln(2)
  const float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 1.0f / 2;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * __builtin_bit_cast(float, (static_cast<int>(n) + 127) << 23);
}

double exp_sum(const float* x, std::size_t n, float scale, float shift, float* out) {
  constexpr std::size_t kBlock = 1024;
  double total = 0;
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t end = n - begin < kBlock ? n : begin + kBlock;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::size_t i = begin; i < end; ++i) {
      const float e = exp_of(x[i] * scale - shift);
      out[i] = e;
      sum += e;
    }
    total += static_cast<double>(sum);
  }
  return total;
}

void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float* out) {
  const float scale = 1.0f / __builtin_sqrtf(dot(x, x, n) / static_cast<float>(n) + eps);
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void silu_mul(float* gate, const float* up, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    // Compilers divide twice more, by what exp_of() is clamped to, if the gate is divided itself.
    const float sigmoid = 1.0f / (1.0f + exp_of(-gate[i]));
    gate[i] = gate[i] * sigmoid * up[i];
  }
}

void rotate(float* x, const float* cos, const float* sin, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float a = x[i], b = x[i + n];
    x[i] = a * cos[i] - b * sin[i];
    x[i + n] = b * cos[i] + a * sin[i];
  }
}

}  // namespace

extern const VectorOps kVectorOps;
const VectorOps kVectorOps = {
    dot,     axpy,     scale,    add_integers, matvec, max, largest_magnitude,
    exp_sum, rms_norm, silu_mul, rotate};

}  // namespace squish::linalg::SQUISH_ISA_NAMESPACE
