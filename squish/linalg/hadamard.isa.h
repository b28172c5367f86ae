#pragma once
#include <cstddef>

/// The loops of hadamard.cc, one table per instruction set (squish/base/isa.h). A strip holds
/// kStripLanes vectors side by side: element i of vector l is strip[i * kStripLanes + l].
namespace squish::linalg {

inline constexpr std::size_t kStripLanes = 16;

struct HadamardOps {
  /// Multiplies `length` elements of each vector by the Sylvester matrix of that order (a power of
  /// two), unscaled, in place.
  void (*butterflies)(float* strip, std::size_t length);
  /// Multiplies each run of kStripLanes of the `n` elements by the Sylvester matrix of that order.
  void (*butterflies_within)(float* x, std::size_t n);
  /// out = (M (x) I) in: run r of out, of `run` elements, is the sum of M[r][k] * run k of in.
  /// M is order x order, row-major; order is a multiple of 4.
  void (*mix)(const float* matrix, std::size_t order, const float* in, std::size_t run, float* out);
  /// Element i of vector l = factors[i] * rows[l * stride + i], for `lanes` rows of n elements; the
  /// other vectors keep what they hold.
  void (*load_rows)(const float* rows, std::size_t stride, std::size_t n, std::size_t lanes,
                    const float* factors, float* strip);
  /// rows[l * stride + i] = factors[i] * element i of vector l.
  void (*store_rows)(const float* strip, std::size_t n, std::size_t lanes, const float* factors,
                     float* rows, std::size_t stride);
};

}  // namespace squish::linalg
