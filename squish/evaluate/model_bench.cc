#include "squish/evaluate/model_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "squish/base/progress.h"

namespace squish::evaluate {
namespace {

class ModelBencher {
 public:
  ModelBencher(const io::ModelFiles& files, const Passage* passage,
               const ModelBenchOptions& options, ThreadPool& pool)
      : files_(files), passage_(passage), options_(options), pool_(pool) {}

  ModelBench run() {
    bench_.rows.push_back(uncompressed_row(files_, options_.seed));
    for (const quant::Spec& spec : options_.specs) {
      add_row(spec, false);
      const bool takes_moments = quant::find_method(spec.method()).prepare != nullptr;
      if (options_.calibration != nullptr && takes_moments) add_row(spec, true);
    }
    candidates_.resize(bench_.rows.size());
    compress();
    const std::shared_ptr<const Matrix> own = model::load_head(files_, pool_);
    std::shared_ptr<const Matrix> shared = own;
    if (!options_.tables.empty()) {
      const auto compressed = std::find_if(bench_.rows.begin() + 1, bench_.rows.end(),
                                           [](const auto& row) { return row.ok(); });
      if (compressed != bench_.rows.end()) {  // all store them alike
        shared = model::load_head(candidates_[compressed - bench_.rows.begin()], pool_);
      }
    }
    if (passage_ != nullptr) {
      measure_quality(model::load_for_windows(files_, own, pool_), shared);
    }
    run_step(bench_.rows[0],
             [&] { measure_speed(bench_.rows[0], model::load_transformer(files_, pool_)); });
    Progress progress("generate", static_cast<double>(specs_.size()), options_.quiet);
    for (std::size_t i = 1; i < bench_.rows.size(); ++i) {
      progress.advance(0, bench_.rows[i].spec);
      run_step(bench_.rows[i], [&] {
        measure_speed(bench_.rows[i], model::load_transformer(candidates_[i], pool_));
      });
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
    compress::evict_candidates(options_.cache);
    for (std::size_t i = 1; i < bench_.rows.size(); ++i) {
      const quant::Spec& spec = specs_[i - 1];
      const bool calibrated = bench_.rows[i].calibrated;
      run_step(bench_.rows[i], [&] {
        compress::JobOptions job;
        job.seed = options_.seed;
        job.quiet = options_.quiet;
        job.label = "quantize " + spec.asked() + (calibrated ? " calibrated" : "");
        job.calibration = calibrated ? options_.calibration : nullptr;
        compress::Candidate candidate = compress::cached_candidate(
            files_, compress::make_plan(files_, spec, options_.tables), job, options_.cache, pool_);
        bench_.rows[i].result =
            ModelResult{.storage = storage_of(candidate.files), .cost = candidate.cost};
        candidates_[i] = std::move(candidate.files);
      });
    }
  }

  void measure_quality(const model::Transformer& reference,
                       const std::shared_ptr<const Matrix>& head) {
    std::vector<std::size_t> rows;  // those that are still well
    std::vector<model::Transformer> candidates;
    for (std::size_t i = 1; i < bench_.rows.size(); ++i) {
      run_step(bench_.rows[i], [&] {
        candidates.push_back(model::load_for_windows(candidates_[i], head, pool_));
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
  const Passage* passage_;
  const ModelBenchOptions& options_;
  ThreadPool& pool_;
  ModelBench bench_;
  std::vector<quant::Spec> specs_;          // of the rows after the first
  std::vector<io::ModelFiles> candidates_;  // by row
};

}  // namespace

void check_weights(const io::ModelFiles& files, ThreadPool& pool) {
  if (!files.config.tied_embeddings) model::load_weights(files, "model.embed_tokens.weight", pool);
  model::build_transformer(files, model::load_head(files, pool), pool,
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
          .result = ModelResult{.storage = storage_of(files)}};
}

ModelBench bench_model(const io::ModelFiles& files, const Passage* passage,
                       const ModelBenchOptions& options, ThreadPool& pool) {
  return ModelBencher(files, passage, options, pool).run();
}

}  // namespace squish::evaluate
