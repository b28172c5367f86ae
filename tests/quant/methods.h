#pragma once
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>

#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/base/random.h"
#include "squish/quant/quantizer.h"

/// What the tests of the methods share.
namespace squish::quant {

struct Shape {
  std::size_t rows, cols;
};

/// Independent normal weights.
inline Matrix gaussian(std::size_t rows, std::size_t cols, std::uint64_t seed,
                       double sigma = 0.02) {
  const CounterRng rng(seed, "weights");
  Matrix w(rows, cols);
  for (std::size_t i = 0; i < w.size(); ++i) {
    w.data()[i] = static_cast<float>(sigma * rng.normal(i));
  }
  return w;
}

inline double snr(const Matrix& w, const Matrix& decoded) {
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    signal += double{w.data()[i]} * w.data()[i];
    noise += std::pow(double{w.data()[i]} - decoded.data()[i], 2);
  }
  return 10 * std::log10(signal / noise);
}

inline Packed encode(const Matrix& w, const std::string& spec, int threads = 2,
                     std::uint64_t seed = 1) {
  ThreadPool pool(threads);
  return quantize(w, Spec::parse(spec), {pool, seed, "test"});
}

inline Matrix decode(const Packed& packed) {
  ThreadPool pool(1);
  return dequantize(packed, pool);
}

inline const Bytes& bytes_of(const Packed& packed, std::string_view name) {
  for (const Section& section : packed.sections) {
    if (section.name == name) return section.bytes;
  }
  throw Error("no section of that name");
}

/// Element `index` of a section of f16.
inline float half_at(const Bytes& bytes, std::size_t index) {
  std::uint16_t half = 0;
  std::memcpy(&half, bytes.data() + 2 * index, 2);
  return from_f16(half);
}

}  // namespace squish::quant
