#pragma once
#include <cstddef>
#include <cstdint>

/// The loops of int.cc, one table per instruction set (squish/base/isa.h).
namespace squish::quant {

struct IntOps {
  /// codes[i] = nearest of {low..high} to (w[i] - zero) / scale, shifted so that low is code 0;
  /// all codes 0 - low when scale is 0. Returns the squared error of scale * code + zero, each
  /// term times its weight h; h may be null: all 1.
  float (*round)(const float* w, const float* h, std::size_t n, float scale, float zero, int low,
                 int high, std::uint8_t* codes);
  /// Sums over the group that its least-squares scale and zero point need, q = code + low, each
  /// term times its weight: {sum q, sum q^2, sum w, sum q w, sum 1}.
  void (*sums)(const float* w, const float* h, const std::uint8_t* codes, std::size_t n, int low,
               float* out);
  /// out[i] = scale * (codes[i] + low) + zero.
  void (*expand)(const std::uint8_t* codes, std::size_t n, float scale, float zero, int low,
                 float* out);
  /// {smallest, largest} of w; n > 0.
  void (*range)(const float* w, std::size_t n, float* out);
  /// Splits bytes into two codes each, low nibble first; n codes.
  void (*unpack_nibbles)(const std::uint8_t* bytes, std::size_t n, std::uint8_t* codes);
};

const IntOps& int_ops();

}  // namespace squish::quant
