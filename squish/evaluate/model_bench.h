#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "squish/compress/candidate.h"
#include "squish/evaluate/perplexity.h"
#include "squish/evaluate/row.h"
#include "squish/evaluate/storage.h"
#include "squish/evaluate/throughput.h"

/// Every method on a whole model: stage 2 of the benchmark.
namespace squish::evaluate {

struct ModelResult {
  Storage storage = {};
  std::optional<compress::Cost> cost = {};  ///< absent for the uncompressed model
  std::optional<Quality> quality = {};      ///< absent without a text
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
  std::filesystem::path cache;  ///< where candidates are kept (compress/candidate.h)
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
/// bytes, and never two models in floats. Disk: a checkpoint of each candidate in the cache.
ModelBench bench_model(const io::ModelFiles& files, const Passage* passage,
                       const ModelBenchOptions& options, ThreadPool& pool);

}  // namespace squish::evaluate
