#include "squish/quant/registry.h"

#include <fmt/ranges.h>

#include <cmath>

#include "squish/base/error.h"

namespace squish::quant {

const std::vector<Method>& methods() {
  static const std::vector<Method> list = [] {
    std::vector<Method> all;
    for (const unsigned bits : {4u, 2u, 3u, 5u, 6u, 7u, 8u}) all.push_back(int_method(bits));
    all.push_back(vptq_method());
    all.push_back(aqlm_method());
    all.push_back(quip_method());
    all.push_back(trellis_method());
    return all;
  }();
  return list;
}

const Method& find_method(std::string_view name) {
  std::vector<std::string> names;
  for (const Method& method : methods()) {
    if (method.name == name) return method;
    names.push_back(method.name);
  }
  fail_usage("unknown method '{}': expected one of {}", name, fmt::join(names, ", "));
}

std::span<const std::byte> Packed::section(std::string_view name, std::size_t bytes) const {
  const Section* found = shared != nullptr && shared->name == name ? shared.get() : nullptr;
  for (const Section& section : sections) {
    if (section.name == name) found = &section;
  }
  if (found == nullptr) {
    fail("{} matrix of {} x {}: section '{}' is missing", spec.full(), rows, cols, name);
  }
  if (found->bytes.size() != bytes) {
    fail("{} matrix of {} x {}: section '{}' holds {} bytes, expected {}", spec.full(), rows, cols,
         name, found->bytes.size(), bytes);
  }
  return found->bytes;
}

Packed row_of(const Packed& packed, std::size_t row) {
  Packed one{packed.spec, 1, packed.cols, {}};
  for (const Section& section : packed.sections) {
    const std::size_t bytes = section.bytes.size() / packed.rows;
    one.sections.push_back({section.name, section.part, section.bytes.part(row * bytes, bytes)});
  }
  return one;
}

Bits Packed::bits() const {
  Bits bits;
  for (const Section& section : sections) {
    const std::uint64_t size = 8 * section.bytes.size();
    switch (section.part) {
      case Part::indices:
        bits.indices += size;
        break;
      case Part::scales:
        bits.scales += size;
        break;
      case Part::codebooks:
        bits.codebooks += size;
        break;
      case Part::other:
        bits.other += size;
        break;
    }
  }
  return bits;
}

double Packed::bpw() const {
  return static_cast<double>(bits().total()) /
         (static_cast<double>(rows) * static_cast<double>(cols));
}

std::shared_ptr<const Prepared> prepare(const InputMoments& moments, const Spec& spec,
                                        ThreadPool& pool, std::uint64_t seed,
                                        std::string_view input_key) {
  const Method& method = find_method(spec.method());
  if (method.prepare == nullptr) return nullptr;
  return method.prepare(moments, spec, {pool, seed, input_key});
}

void check_weights(ConstMatrixView weights) {
  if (weights.rows == 0 || weights.cols == 0) {
    fail("a {} x {} matrix cannot be quantised: it is empty", weights.rows, weights.cols);
  }
  for (std::size_t i = 0; i < weights.rows; ++i) {
    for (std::size_t j = 0; j < weights.cols; ++j) {
      const float w = weights(i, j);
      if (!std::isfinite(w)) fail("weight ({}, {}) is {}, expected a finite number", i, j, w);
      if (std::abs(w) > kLargestWeight) {
        fail("weight ({}, {}) is {:g}, expected a magnitude of at most {:g}", i, j, w,
             kLargestWeight);
      }
    }
  }
}

Packed quantize(ConstMatrixView weights, const Spec& spec, const EncodeContext& context) {
  check_weights(weights);
  if (context.prepared != nullptr && context.prepared->inputs != weights.cols) {
    fail("a {} x {} matrix cannot be quantised with the moments of {} inputs", weights.rows,
         weights.cols, context.prepared->inputs);
  }
  return find_method(spec.method()).encode(weights, spec, context);
}

void dequantize(const Packed& packed, MatrixView out, ThreadPool& pool) {
  if (out.rows != packed.rows || out.cols != packed.cols) {
    fail("a {} x {} matrix cannot be decoded into one of {} x {}", packed.rows, packed.cols,
         out.rows, out.cols);
  }
  find_method(packed.spec.method()).decode(packed, out, pool);
}

Matrix dequantize(const Packed& packed, ThreadPool& pool) {
  Matrix out(packed.rows, packed.cols);
  dequantize(packed, out, pool);
  return out;
}

double snr_db(ConstMatrixView weights, ConstMatrixView decoded, ThreadPool& pool) {
  struct Sums {
    double signal = 0, error = 0;
  };
  std::vector<Sums> rows(weights.rows);
  constexpr std::size_t kRowsPerChunk = 16;
  parallel_for(pool, weights.rows, kRowsPerChunk, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      Sums sums;
      for (std::size_t j = 0; j < weights.cols; ++j) {
        const double w = weights(i, j), difference = w - decoded(i, j);
        sums.signal += w * w;
        sums.error += difference * difference;
      }
      rows[i] = sums;
    }
  });
  Sums total;
  for (const Sums& row : rows) {
    total.signal += row.signal;
    total.error += row.error;
  }
  if (!std::isfinite(total.error)) fail("the decoded matrix is not finite");
  return 10 * std::log10(total.signal / total.error);
}

}  // namespace squish::quant
