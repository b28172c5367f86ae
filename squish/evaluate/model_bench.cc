#include "squish/evaluate/model_bench.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "squish/base/progress.h"
#include "squish/evaluate/host.h"

namespace squish::evaluate {
namespace {

using Packed = std::shared_ptr<const quant::Packed>;

class ModelBencher {
 public:
  ModelBencher(const io::ModelFiles& files, const Passage* passage,
               const ModelBenchOptions& options, ThreadPool& pool)
      : files_(files),
        candidate_files_(compress::with_tables(files, options.tables, options.seed, pool)),
        passage_(passage),
        options_(options),
        pool_(pool) {}

  ModelBench run() {
    bench_.rows.push_back(uncompressed_row(files_, options_.seed));
    for (const quant::Spec& spec : options_.specs) {
      add_row(spec, false);
      const bool takes_moments = quant::find_method(spec.method()).prepare != nullptr;
      if (options_.calibration != nullptr && takes_moments) add_row(spec, true);
    }
    packed_.resize(bench_.rows.size());
    compress();
    const model::SharedWeights own = model::load_shared(files_, pool_);
    const model::SharedWeights shared =
        options_.tables.empty() ? own : model::load_shared(candidate_files_, pool_);
    {
      const model::Transformer reference = model::load_transformer(files_, own, pool_);
      if (passage_ != nullptr) measure_quality(reference, shared);
      run_step(bench_.rows[0], [&] { measure_speed(bench_.rows[0], reference); });
    }
    Progress progress("generate", static_cast<double>(specs_.size()), options_.quiet);
    for (std::size_t i = 1; i < bench_.rows.size(); ++i) {
      progress.advance(0, bench_.rows[i].spec);
      run_step(bench_.rows[i], [&] {
        measure_speed(bench_.rows[i], build(shared, i, [&](const Packed& packed) {
                        return model::dense_linear(
                            std::make_shared<const Matrix>(quant::dequantize(*packed, pool_)));
                      }));
      });
      packed_[i].clear();
      progress.advance(1);
    }
    return std::move(bench_);
  }

 private:
  void add_row(const quant::Spec& spec, bool calibrated) {
    bench_.rows.push_back(make_row<ModelResult>(spec, options_.seed));
    bench_.rows.back().calibrated = calibrated;
    specs_.push_back(spec);
  }

  void compress() {
    std::size_t weights = 0;
    for (const std::string& name : io::linear_names(files_.config)) {
      weights += files_.table.at(name).elements();
    }
    for (std::size_t i = 1; i < bench_.rows.size(); ++i) {
      const quant::Spec& spec = specs_[i - 1];
      const bool calibrated = bench_.rows[i].calibrated;
      Progress progress("quantize " + spec.asked() + (calibrated ? " calibrated" : ""),
                        static_cast<double>(weights), options_.quiet);
      run_step(bench_.rows[i], [&] {
        reset_peak_rss();
        const auto start = std::chrono::steady_clock::now();
        packed_[i] = compress::compress_model(files_, spec, options_.seed,
                                              calibrated ? options_.calibration : nullptr, pool_,
                                              [&](const std::string& name, std::size_t done) {
                                                progress.advance(static_cast<double>(done), name);
                                              });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        bench_.rows[i].result =
            ModelResult{.storage = packed_storage(candidate_files_, packed_[i]),
                        .compression = Compression{seconds.count(), peak_rss_bytes()}};
      });
    }
  }

  /// The candidate of row `i`, each layer made from its bytes by `linear`.
  template <class MakeLinear>
  model::Transformer build(const model::SharedWeights& shared, std::size_t i,
                           const MakeLinear& linear) {
    return model::build_transformer(files_, shared, pool_, [&](const std::string& name) {
      return linear(packed_[i].at(name));
    });
  }

  void measure_quality(const model::Transformer& reference, const model::SharedWeights& shared) {
    std::vector<std::size_t> rows;  // those that are still well
    std::vector<model::Transformer> candidates;
    for (std::size_t i = 1; i < bench_.rows.size(); ++i) {
      run_step(bench_.rows[i], [&] {
        candidates.push_back(
            build(shared, i, [](const Packed& p) { return model::packed_linear(p); }));
        rows.push_back(i);
      });
    }
    std::vector<const model::Transformer*> pointers;
    for (const model::Transformer& candidate : candidates) pointers.push_back(&candidate);

    run_step(bench_.rows[0], [&] {
      const std::size_t steps = passage_->windows.size() * (1 + candidates.size());
      Progress progress("perplexity " + passage_->label, static_cast<double>(steps),
                        options_.quiet);
      bench_.noise = noise_floor(reference, *passage_, pool_);
      const std::vector<Scores> scores =
          score(reference, pointers, *passage_, pool_, [&] { progress.advance(1); });
      for (std::size_t k = 0; k < rows.size(); ++k) {
        auto& row = bench_.rows[rows[k]];
        run_step(row, [&] { row.result->quality = summarise(scores[k + 1], &scores[0]); });
      }
      bench_.rows[0].result->quality = summarise(scores[0], nullptr);
    });
    for (const std::size_t i : rows) {  // nothing can be compared with a reference that failed
      if (bench_.rows[i].ok() && !bench_.rows[i].result->quality) {
        bench_.rows[i].status = bench_.rows[0].status;
      }
    }
  }

  void measure_speed(Row<ModelResult>& row, const model::Transformer& model) {
    row.result->throughput =
        measure_throughput(model, options_.tps_tokens, options_.read_bandwidth_gbs, pool_);
  }

  const io::ModelFiles& files_;
  const io::ModelFiles candidate_files_;  // all but the linear layers
  const Passage* passage_;
  const ModelBenchOptions& options_;
  ThreadPool& pool_;
  ModelBench bench_;
  std::vector<quant::Spec> specs_;             // of the rows after the first
  std::vector<compress::PackedModel> packed_;  // by row
};

}  // namespace

void check_weights(const io::ModelFiles& files, ThreadPool& pool) {
  model::build_transformer(files, model::load_shared(files, pool), pool,
                           [&](const std::string& name) {
                             model::load_weights(files, name, pool);
                             return nullptr;  // nothing is kept
                           });
}

Row<ModelResult> uncompressed_row(const io::ModelFiles& files, std::uint64_t seed) {
  return {.method = "none",
          .spec = "none",
          .spec_full = "none",
          .seed = seed,
          .result = ModelResult{.storage = source_storage(files)}};
}

ModelBench bench_model(const io::ModelFiles& files, const Passage* passage,
                       const ModelBenchOptions& options, ThreadPool& pool) {
  return ModelBencher(files, passage, options, pool).run();
}

}  // namespace squish::evaluate
