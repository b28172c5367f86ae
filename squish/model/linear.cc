#include "squish/model/linear.h"

#include <algorithm>
#include <cassert>
#include <utility>

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

class PackedLinear : public Linear {
 public:
  explicit PackedLinear(std::shared_ptr<const quant::Packed> packed) : packed_(std::move(packed)) {}

  std::size_t rows() const override { return packed_->rows; }
  std::size_t cols() const override { return packed_->cols; }
  std::size_t weight_bytes() const override { return packed_->bits().total() / 8; }
  void apply(ConstMatrixView x, MatrixView y, ThreadPool& pool) const override {
    thread_local AlignedVector<float> decoded;
    if (decoded.size() < rows() * cols()) decoded.resize(rows() * cols());
    const MatrixView weights(decoded.data(), rows(), cols());
    quant::dequantize(*packed_, weights, pool);
    multiply(x, weights, y, pool);
  }

 private:
  std::shared_ptr<const quant::Packed> packed_;
};

}  // namespace

std::unique_ptr<Linear> dense_linear(std::shared_ptr<const Matrix> weights) {
  return std::make_unique<DenseLinear>(std::move(weights));
}

std::unique_ptr<Linear> packed_linear(std::shared_ptr<const quant::Packed> packed) {
  return std::make_unique<PackedLinear>(std::move(packed));
}

}  // namespace squish::model
