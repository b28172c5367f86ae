#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "squish/base/matrix.h"
#include "squish/evaluate/timing.h"
#include "squish/quant/quantizer.h"

/// How well and how fast a method stores one weight matrix: stage 1 of the benchmark. Every field
/// is the one of that name in metrics.md.
namespace squish::evaluate {

/// rows x cols of independent N(0, sigma^2) weights, the same for every number of threads.
Matrix gaussian_matrix(std::size_t rows, std::size_t cols, double sigma, std::uint64_t seed,
                       ThreadPool& pool);

struct MatrixResult {
  std::size_t rows = 0, cols = 0;
  double bpw = 0, bpw_nominal = 0;
  quant::Bits bits = {};
  double snr_db = 0;
  std::optional<double> shannon_gap_db = {};  ///< Gaussian weights only
  Timing compress_ms = {}, decompress_ms = {};
  std::string backend = {};
};

/// `gaussian`: the weights are independent and normal, so that the Shannon gap means something.
MatrixResult measure_matrix(ConstMatrixView weights, bool gaussian, const quant::Spec& spec,
                            const quant::EncodeContext& context);

}  // namespace squish::evaluate
