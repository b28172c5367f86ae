#pragma once
#include <optional>
#include <string>
#include <vector>

#include "squish/compress/plan.h"
#include "squish/evaluate/perplexity.h"
#include "squish/evaluate/row.h"
#include "squish/evaluate/storage.h"
#include "squish/evaluate/throughput.h"

/// Every method on a whole model: stage 2 of the benchmark.
namespace squish::evaluate {

struct Compression {
  double quantize_s = 0;           ///< reading and decoding the source included
  std::size_t peak_rss_bytes = 0;  ///< of the process, with what it held before
};

struct ModelResult {
  Storage storage = {};
  std::optional<Compression> compression = {};  ///< absent for the uncompressed model
  std::optional<Quality> quality = {};          ///< absent without a text
  std::optional<Throughput> throughput = {};
};

/// What all rows of a stage 2 share.
struct ModelBench {
  std::vector<Row<ModelResult>> rows;  ///< the uncompressed model's first, method `none`
  std::optional<Divergence> noise;     ///< absent without a text
};

struct ModelBenchOptions {
  std::vector<quant::Spec> specs;
  /// Of this model, or null. With one, each method that makes use of it has a row calibrated after
  /// its row uncalibrated.
  const io::Calibration* calibration = nullptr;
  /// How all candidates store embedding and head: compress::table_rules(); empty: as the source.
  std::vector<compress::TensorRule> tables = {};
  std::uint64_t seed = 0;
  std::size_t tps_tokens = 128;
  double read_bandwidth_gbs = 0;
  bool quiet = false;  ///< no progress on standard error
};

/// Error naming the first tensor of the model that is missing or not finite. Reads all of it, one
/// layer at a time: for a check before long work.
void check_weights(const io::ModelFiles& files, ThreadPool& pool);

/// The row of the uncompressed model, with nothing measured yet.
Row<ModelResult> uncompressed_row(const io::ModelFiles& files, std::uint64_t seed);

/// All rows; `passage` may be null. A method that fails leaves its sentence in its row, beside what
/// was measured before. Memory: the uncompressed model in floats, all candidates in their methods'
/// bytes, and never two models in floats.
ModelBench bench_model(const io::ModelFiles& files, const Passage* passage,
                       const ModelBenchOptions& options, ThreadPool& pool);

}  // namespace squish::evaluate
