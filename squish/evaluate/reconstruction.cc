#include "squish/evaluate/reconstruction.h"

#include <cmath>
#include <vector>

#include "squish/base/isa.h"
#include "squish/base/random.h"

namespace squish::evaluate {
namespace {

constexpr std::size_t kRowsPerChunk = 16;
const double kDecibelsPerBit = 20 * std::log10(2.0);  // 6.0206

}  // namespace

Matrix gaussian_matrix(std::size_t rows, std::size_t cols, double sigma, std::uint64_t seed,
                       ThreadPool& pool) {
  Matrix weights(rows, cols);
  const CounterRng random(seed, "benchmark weights");
  parallel_for(pool, rows, kRowsPerChunk, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin * cols; i < end * cols; ++i) {
      weights.data()[i] = static_cast<float>(sigma * random.normal(i));
    }
  });
  return weights;
}

MatrixResult measure_matrix(ConstMatrixView weights, bool gaussian, const quant::Spec& spec,
                            const quant::EncodeContext& context) {
  MatrixResult result{.rows = weights.rows, .cols = weights.cols};
  quant::Packed packed;
  result.compress_ms = time_ms([&] { packed = quant::quantize(weights, spec, context); });
  Matrix decoded(weights.rows, weights.cols);
  result.decompress_ms = time_ms([&] { quant::dequantize(packed, decoded, context.pool); });

  result.bpw = packed.bpw();
  result.bpw_nominal =
      quant::find_method(spec.method()).nominal_bpw(spec, weights.rows, weights.cols);
  result.bits = packed.bits();
  result.snr_db = quant::snr_db(weights, decoded, context.pool);
  if (gaussian) result.shannon_gap_db = kDecibelsPerBit * result.bpw - result.snr_db;
  result.backend = backend_name();
  return result;
}

}  // namespace squish::evaluate
