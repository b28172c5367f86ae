#include "squish/quant/int.isa.h"

namespace squish::quant::SQUISH_ISA_NAMESPACE {
namespace {

template <bool kWeighted>
float round(const float* w, const float* h, std::size_t n, float scale, float zero, int low,
            int high, std::uint8_t* codes) {
  const float inverse = scale > 1e-38f || scale < -1e-38f ? 1.0f / scale : 0.0f;
  const float lowest = static_cast<float>(low), highest = static_cast<float>(high);
  float error = 0;
#pragma omp simd reduction(+ : error)
  for (std::size_t i = 0; i < n; ++i) {
    float x = (w[i] - zero) * inverse;
    x = x < lowest ? lowest : x;
    x = x > highest ? highest : x;
    const int code = static_cast<int>(x - lowest + 0.5f);
    const float d = w[i] - (scale * static_cast<float>(code + low) + zero);
    error += kWeighted ? h[i] * (d * d) : d * d;
    codes[i] = static_cast<std::uint8_t>(code);
  }
  return error;
}

float round_any(const float* w, const float* h, std::size_t n, float scale, float zero, int low,
                int high, std::uint8_t* codes) {
  return h == nullptr ? round<false>(w, h, n, scale, zero, low, high, codes)
                      : round<true>(w, h, n, scale, zero, low, high, codes);
}

template <bool kWeighted>
void sums(const float* w, const float* h, const std::uint8_t* codes, std::size_t n, int low,
          float* out) {
  float q1 = 0, q2 = 0, w1 = 0, qw = 0, h1 = 0;
#pragma omp simd reduction(+ : q1, q2, w1, qw, h1)
  for (std::size_t i = 0; i < n; ++i) {
    const float q = static_cast<float>(codes[i] + low);
    const float qh = kWeighted ? q * h[i] : q;
    q1 += qh;
    q2 += q * qh;
    w1 += kWeighted ? w[i] * h[i] : w[i];
    qw += qh * w[i];
    if (kWeighted) h1 += h[i];
  }
  out[0] = q1;
  out[1] = q2;
  out[2] = w1;
  out[3] = qw;
  out[4] = kWeighted ? h1 : static_cast<float>(n);
}

void sums_any(const float* w, const float* h, const std::uint8_t* codes, std::size_t n, int low,
              float* out) {
  h == nullptr ? sums<false>(w, h, codes, n, low, out) : sums<true>(w, h, codes, n, low, out);
}

void expand(const std::uint8_t* codes, std::size_t n, float scale, float zero, int low,
            float* out) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = scale * static_cast<float>(codes[i] + low) + zero;
  }
}

void range(const float* w, std::size_t n, float* out) {
  float smallest = w[0], largest = w[0];
#pragma omp simd reduction(min : smallest) reduction(max : largest)
  for (std::size_t i = 0; i < n; ++i) {
    smallest = w[i] < smallest ? w[i] : smallest;
    largest = w[i] > largest ? w[i] : largest;
  }
  out[0] = smallest;
  out[1] = largest;
}

void unpack_nibbles(const std::uint8_t* bytes, std::size_t n, std::uint8_t* codes) {
#pragma omp simd
  for (std::size_t i = 0; i < n / 2; ++i) {
    codes[2 * i] = bytes[i] & 15;
    codes[2 * i + 1] = bytes[i] >> 4;
  }
  if (n % 2 != 0) codes[n - 1] = bytes[n / 2] & 15;
}

}  // namespace

extern const IntOps kIntOps;
const IntOps kIntOps = {round_any, sums_any, expand, range, unpack_nibbles};

}  // namespace squish::quant::SQUISH_ISA_NAMESPACE
