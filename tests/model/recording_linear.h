#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "squish/model/transformer.h"

namespace squish::test {

using Rows = std::vector<std::vector<float>>;

/// Keeps all that it is given.
class RecordingLinear : public model::Linear {
 public:
  RecordingLinear(Matrix weights, Rows& seen)
      : inner_(model::dense_linear(std::make_shared<const Matrix>(std::move(weights)))),
        seen_(seen) {}
  std::size_t rows() const override { return inner_->rows(); }
  std::size_t cols() const override { return inner_->cols(); }
  std::size_t weight_bytes() const override { return inner_->weight_bytes(); }
  void apply(ConstMatrixView x, MatrixView y, ThreadPool& pool) const override {
    for (std::size_t i = 0; i < x.rows; ++i) seen_.emplace_back(x.row(i).begin(), x.row(i).end());
    inner_->apply(x, y, pool);
  }

 private:
  std::unique_ptr<Linear> inner_;
  Rows& seen_;
};

/// The model `files` with the linear layers of `linears`, each of which records into `seen` by its
/// name.
inline model::Transformer recording_model(const io::ModelFiles& files,
                                          const io::ModelFiles& linears,
                                          std::map<std::string, Rows>& seen, ThreadPool& pool) {
  return model::build_transformer(files, model::load_head(files, pool), pool,
                                  [&](const std::string& name) {
                                    return std::make_unique<RecordingLinear>(
                                        model::load_weights(linears, name, pool), seen[name]);
                                  });
}

/// What every linear layer of it is given.
inline std::map<std::string, Rows> record(const io::ModelFiles& files,
                                          const io::ModelFiles& linears,
                                          const std::vector<std::vector<model::TokenId>>& windows,
                                          ThreadPool& pool) {
  std::map<std::string, Rows> seen;
  const model::Transformer model = recording_model(files, linears, seen, pool);
  for (const auto& window : windows) {
    model::KvCache cache(model.config, window.size());
    model::forward(model, window, cache, pool);
  }
  return seen;
}

}  // namespace squish::test
