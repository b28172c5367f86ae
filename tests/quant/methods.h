#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>

#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/base/random.h"
#include "squish/quant/feedback.h"
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

/// Moments as activations have them: neighbours correlate, a common part runs through all inputs,
/// and some inputs are much stronger than others.
inline InputMoments correlated(std::size_t n, std::uint64_t seed = 1) {
  const CounterRng rng(seed, "moments");
  InputMoments moments{linalg::SymmetricMatrix(n), std::vector<double>(n)};
  std::vector<double> size(n), common(n);
  for (std::size_t i = 0; i < n; ++i) {
    size[i] = std::exp(0.7 * rng.normal(i));
    common[i] = 0.5 * rng.normal(n + i);
    moments.mean[i] = 0.3 * size[i] * rng.normal(2 * n + i);
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      const auto apart = static_cast<double>(i < j ? j - i : i - j);
      moments.second.at(i, j) = size[i] * size[j] * (std::pow(0.9, apart) + common[i] * common[j]) +
                                moments.mean[i] * moments.mean[j];
    }
  }
  return moments;
}

inline InputMoments uncorrelated(std::size_t n) {
  InputMoments moments{linalg::SymmetricMatrix(n), std::vector<double>(n)};
  for (std::size_t j = 0; j < n; ++j) moments.second.at(j, j) = 1;
  return moments;
}

/// With the moments of its inputs.
inline Packed encode(const Matrix& w, const std::string& spec, const InputMoments& moments,
                     int threads = 2, std::uint64_t seed = 1) {
  ThreadPool pool(threads);
  const Spec parsed = Spec::parse(spec);
  const auto prepared = prepare(moments, parsed, pool, seed, "test input");
  return quantize(w, parsed, {pool, seed, "test", prepared.get()});
}

inline Matrix decode(const Packed& packed) {
  ThreadPool pool(1);
  return dequantize(packed, pool);
}

inline const SharedBytes& bytes_of(const Packed& packed, std::string_view name) {
  for (const Section& section : packed.sections) {
    if (section.name == name) return section.bytes;
  }
  throw Error("no section of that name");
}

/// The share of the outputs' energy that the reconstruction loses.
inline double loss(const Matrix& w, const Packed& packed, const InputMoments& moments) {
  ThreadPool pool(2);
  return proxy_loss(w, decode(packed), moments.second, pool);
}

inline bool same_bytes(const Packed& a, const Packed& b) {
  return std::equal(a.sections.begin(), a.sections.end(), b.sections.begin(), b.sections.end(),
                    [](const Section& s, const Section& t) {
                      return s.name == t.name && s.part == t.part && s.bytes == t.bytes;
                    });
}

/// The bytes under these moments are those of one thread on two and on three.
inline void expect_same_on_any_threads(const Matrix& w, const std::string& spec,
                                       const InputMoments& moments) {
  const Packed one = encode(w, spec, moments, 1);
  for (const int threads : {2, 3}) {
    EXPECT_TRUE(same_bytes(one, encode(w, spec, moments, threads))) << spec << " on " << threads;
  }
}

/// Element `index` of a section of f16.
inline float half_at(std::span<const std::byte> bytes, std::size_t index) {
  std::uint16_t half = 0;
  std::memcpy(&half, bytes.data() + 2 * index, 2);
  return from_f16(half);
}

}  // namespace squish::quant
