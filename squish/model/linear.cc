#include "squish/model/linear.h"

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "squish/kernels/panel.h"
#include "squish/linalg/gemm.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::model {
namespace {

// Weights per chunk of a matrix-vector product: 128 KiB, long enough to pay for handing it out.
constexpr std::size_t kChunkWeights = 32 * 1024;

void multiply(ConstMatrixView x, ConstMatrixView weights, MatrixView y, ThreadPool& pool) {
  assert(x.cols == weights.cols && y.cols == weights.rows && x.rows == y.rows);
  if (x.rows != 1) {
    linalg::gemm_nt(x, weights, y, pool);
    return;
  }
  const auto& ops = linalg::vector_ops();
  const std::size_t rows = kChunkWeights / std::max<std::size_t>(1, weights.cols) / 4 * 4;
  parallel_for(pool, weights.rows, std::max<std::size_t>(4, rows),
               [&](std::size_t begin, std::size_t end) {
                 ops.matvec(weights.data + begin * weights.stride, end - begin, weights.cols,
                            weights.stride, x.data, y.data + begin);
               });
}

/// Each token by itself.
void multiply_each(ConstMatrixView x, const kernels::Kernel& kernel, MatrixView y,
                   ThreadPool& pool) {
  for (std::size_t t = 0; t < x.rows; ++t) {
    const kernels::Product product{&kernel, y.row(t)};
    kernels::multiply({&product, 1}, x.row(t), pool);
  }
}

class DenseLinear : public Linear {
 public:
  explicit DenseLinear(std::shared_ptr<const Matrix> weights) : weights_(std::move(weights)) {}

  std::size_t rows() const override { return weights_->rows(); }
  std::size_t cols() const override { return weights_->cols(); }
  std::size_t weight_bytes() const override { return weights_->size() * sizeof(float); }
  void apply(ConstMatrixView x, MatrixView y, ThreadPool& pool) const override {
    multiply(x, *weights_, y, pool);
  }

 private:
  std::shared_ptr<const Matrix> weights_;
};

class StoredLinear : public Linear {
 public:
  StoredLinear(StoredWeights weights, std::size_t fused)
      : weights_(std::move(weights)), fused_(fused) {}

  std::size_t rows() const override { return weights_.rows; }
  std::size_t cols() const override { return weights_.cols; }
  std::size_t weight_bytes() const override { return weights_.bytes; }
  const kernels::Kernel* kernel() const override { return weights_.kernel.get(); }
  bool decodes(std::size_t tokens) const override {
    if (kernel() == nullptr || !kernel()->decodes() || tokens <= fused_) return false;
    // Beyond that, rotating the matrix back costs less than rotating all inputs and outputs.
    return kernel()->form().rotation == nullptr || tokens <= cols();
  }
  void apply(ConstMatrixView x, MatrixView y, ThreadPool& pool) const override {
    if (kernel() != nullptr && x.rows <= fused_) return multiply_each(x, *kernel(), y, pool);
    if (decodes(x.rows)) {
      const kernels::PanelProduct product{kernel(), y};
      return kernels::multiply({&product, 1}, x, pool);
    }
    thread_local AlignedVector<float> decoded;
    if (decoded.size() < rows() * cols()) decoded.resize(rows() * cols());
    const MatrixView weights(decoded.data(), rows(), cols());
    weights_.decode(weights, pool);
    if (kernel() != nullptr) return kernels::multiply(x, weights, y, pool);
    multiply(x, weights, y, pool);
  }

 private:
  StoredWeights weights_;
  std::size_t fused_;
};

}  // namespace

void apply_all(std::span<const Linear* const> layers, ConstMatrixView x,
               std::span<const MatrixView> y, ThreadPool& pool) {
  assert(layers.size() == y.size());
  if (std::ranges::all_of(layers, [&](const Linear* layer) { return layer->decodes(x.rows); })) {
    std::vector<kernels::PanelProduct> products;
    for (std::size_t i = 0; i < layers.size(); ++i) products.push_back({layers[i]->kernel(), y[i]});
    kernels::multiply(products, x, pool);
    return;
  }
  const bool fused = x.rows == 1 && std::ranges::all_of(layers, [](const Linear* layer) {
                       return layer->kernel() != nullptr;
                     });
  if (fused) {
    thread_local std::vector<kernels::Product> products;  // kept from token to token
    products.clear();
    for (std::size_t i = 0; i < layers.size(); ++i) {
      products.push_back({layers[i]->kernel(), y[i].row(0)});
    }
    kernels::multiply(products, x.row(0), pool);
    return;
  }
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i]->apply(x, y[i], pool);
}

std::unique_ptr<Linear> dense_linear(std::shared_ptr<const Matrix> weights) {
  return std::make_unique<DenseLinear>(std::move(weights));
}

StoredWeights packed_weights(std::shared_ptr<const quant::Packed> packed, bool with_kernel) {
  StoredWeights weights{packed->rows, packed->cols, packed->bits().total() / 8, {}, nullptr};
  if (with_kernel) weights.kernel = kernels::make_kernel(packed);
  const kernels::Kernel* const kernel = weights.kernel.get();
  // It may have put the matrix in an order of its own: then nobody else keeps what is stored.
  if (kernel != nullptr && kernel->decodes() && kernel->form().rotation == nullptr) return weights;
  weights.decode = [packed = std::move(packed)](MatrixView out, ThreadPool& pool) {
    quant::dequantize(*packed, out, pool);
  };
  return weights;
}

std::unique_ptr<Linear> stored_linear(StoredWeights weights, std::size_t fused) {
  return std::make_unique<StoredLinear>(std::move(weights), fused);
}

std::unique_ptr<Linear> packed_linear(std::shared_ptr<const quant::Packed> packed,
                                      std::size_t fused) {
  return stored_linear(packed_weights(std::move(packed), fused > 0), fused);
}

}  // namespace squish::model
