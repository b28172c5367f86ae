#pragma once
#include <memory>

#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/quant/quantizer.h"

namespace squish::model {

/// Y = X Wᵀ, however W is stored. Nothing above this interface knows the format.
class Linear {
 public:
  virtual ~Linear() = default;
  virtual std::size_t rows() const = 0;  ///< output features
  virtual std::size_t cols() const = 0;  ///< input features
  /// x: tokens x cols, y: tokens x rows. One token takes the matrix-vector path. The result of a
  /// token does not depend on the number of threads.
  virtual void apply(ConstMatrixView x, MatrixView y, ThreadPool& pool) const = 0;
  /// Bytes that one token must read.
  virtual std::size_t weight_bytes() const = 0;
};

/// Weights as floats: sgemm for several tokens, dot products for one.
std::unique_ptr<Linear> dense_linear(std::shared_ptr<const Matrix> weights);

/// Weights in a method's bytes, decoded for every call into a buffer of the calling thread, which
/// all packed layers share and which stays as large as the largest of them: for evaluation over
/// whole windows, where the product costs far more. For generation decode once into a
/// dense_linear().
std::unique_ptr<Linear> packed_linear(std::shared_ptr<const quant::Packed> packed);

}  // namespace squish::model
