#include "squish/compress/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "squish/base/error.h"
#include "squish/model/divergence.h"
#include "squish/model/transformer.h"

namespace squish::compress {
namespace {

constexpr std::size_t kPositions = 128;  // whose logits are compared at a time

/// A linear layer that another can stand in for.
class Replaceable : public model::Linear {
 public:
  explicit Replaceable(std::unique_ptr<Linear> own) : own_(std::move(own)) {}

  /// Null: its own weights again.
  void replace(std::unique_ptr<Linear> other) { other_ = std::move(other); }
  std::size_t rows() const override { return own_->rows(); }
  std::size_t cols() const override { return own_->cols(); }
  std::size_t weight_bytes() const override { return own_->weight_bytes(); }
  void apply(ConstMatrixView x, MatrixView y, ThreadPool& pool) const override {
    (other_ ? other_ : own_)->apply(x, y, pool);
  }

 private:
  std::unique_ptr<Linear> own_, other_;
};

/// NaN where a logit is not finite.
double divergence(std::span<const float> wanted, std::span<const float> own,
                  std::span<float> scratch) {
  const model::Distribution own_distribution = model::distribution(own, scratch);
  const model::Distribution distribution = model::distribution(wanted, scratch);
  if (!own_distribution.finite || !distribution.finite) return std::nan("");
  return model::divergence(wanted, scratch, distribution, own, own_distribution);
}

class Prober {
 public:
  Prober(const io::ModelFiles& files, std::span<const std::vector<model::TokenId>> windows,
         const Probe& probe, ThreadPool& pool)
      : files_(files), windows_(windows), probe_(probe), pool_(pool) {
    const auto linear = [&](const std::string& name) {
      auto layer = std::make_unique<Replaceable>(model::linear_for_windows(files, name, pool));
      layers_[name] = layer.get();
      return layer;
    };
    model_ = model::build_transformer(files, model::load_head(files, pool), pool, linear);
  }

  void run() {
    const std::size_t blocks = model_.layers.size();
    std::vector<Matrix> given;  // to the block, for each window
    for (const auto& window : windows_) {
      given.push_back(model::embed(model_.embedding, window));
      Matrix& logits = wanted_.emplace_back(window.size(), model_.config.vocab);
      each_logits(given.back(), 0, [&](std::size_t begin, ConstMatrixView rows) {
        for (std::size_t i = 0; i < rows.rows; ++i) {
          std::ranges::copy(rows.row(i), logits.row(begin + i).data());
        }
      });
    }
    const std::vector<std::string> names = io::linear_names(files_.config);
    const std::size_t in_block = names.size() / blocks;
    for (std::size_t block = 0; block < blocks; ++block) {
      for (std::size_t i = 0; i < in_block; ++i) {
        const std::string& name = names[block * in_block + i];
        if (probe_.wanted(name)) probe_.found(name, measure(name, block, given));
      }
      for (Matrix& hidden : given) run_blocks(block, block + 1, hidden);
    }
  }

 private:
  void run_blocks(std::size_t first, std::size_t last, Matrix& hidden) {
    model::KvCache cache(model_.config, hidden.rows());
    model::run_blocks(model_, first, last, hidden, cache, pool_);
  }

  /// The logits of all positions, up to kPositions at a time, from what block `first` is given.
  template <class Body>
  void each_logits(Matrix hidden, std::size_t first, const Body& body) {
    run_blocks(first, model_.layers.size(), hidden);
    model::final_norm(model_, hidden, pool_);
    Matrix logits(kPositions, model_.config.vocab);
    for (std::size_t begin = 0; begin < hidden.rows(); begin += kPositions) {
      const std::size_t end = std::min(begin + kPositions, hidden.rows());
      const MatrixView rows = logits.view().row_range(0, end - begin);
      model::logits(model_, hidden.view().row_range(begin, end), rows, pool_);
      body(begin, rows);
    }
  }

  double measure(const std::string& name, std::size_t block, const std::vector<Matrix>& given) {
    Replaceable& layer = *layers_.at(name);
    layer.replace(model::dense_linear(std::make_shared<const Matrix>(probe_.replacement(name))));
    Matrix scratch(kPositions, model_.config.vocab);
    std::vector<double> divergences(kPositions);
    double sum = 0;
    std::size_t count = 0;
    for (std::size_t w = 0; w < given.size(); ++w) {
      each_logits(given[w], block, [&](std::size_t begin, ConstMatrixView rows) {
        pool_.run(rows.rows, [&](std::size_t i) {
          divergences[i] = divergence(wanted_[w].row(begin + i), rows.row(i), scratch.row(i));
        });
        for (std::size_t i = 0; i < rows.rows; ++i) sum += divergences[i];
        count += rows.rows;
      });
    }
    layer.replace(nullptr);
    if (!std::isfinite(sum)) {
      fail("{}: logits are not finite with {} compressed", files_.path.string(), name);
    }
    return sum / static_cast<double>(count);
  }

  const io::ModelFiles& files_;
  std::span<const std::vector<model::TokenId>> windows_;
  const Probe& probe_;
  ThreadPool& pool_;
  model::Transformer model_;
  std::map<std::string, Replaceable*> layers_;  // of model_
  std::vector<Matrix> wanted_;                  // the model's own logits, for each window
};

}  // namespace

void probe_layers(const io::ModelFiles& files, std::span<const std::vector<model::TokenId>> windows,
                  const Probe& probe, ThreadPool& pool) {
  Prober(files, windows, probe, pool).run();
}

std::size_t probing_memory(const io::ModelConfig& c, std::size_t window, std::size_t tokens) {
  constexpr std::size_t kProgram = 48'000'000;  // and the products' panels
  const std::size_t attention = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  const std::size_t head = c.vocab * c.hidden, logits = c.vocab * (tokens + 2 * kPositions);
  const std::size_t cache = 2 * window * kv * c.layers;
  const std::size_t pass = window * (2 * c.hidden + 2 * attention + 2 * kv + 2 * c.intermediate) +
                           (tokens + window) * c.hidden;
  // One that is decoded, the replacement, and what decoding that takes.
  const std::size_t layer = 3 * c.hidden * std::max(c.intermediate, attention);
  return kProgram + sizeof(float) * (head + logits + cache + pass + layer);
}

}  // namespace squish::compress
