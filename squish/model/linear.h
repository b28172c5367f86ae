#pragma once
#include <functional>
#include <memory>
#include <span>

#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/kernels/kernel.h"
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
  /// What multiplies single tokens, if that is a kernel; else null.
  virtual const kernels::Kernel* kernel() const { return nullptr; }
  /// Whether that multiplies so many tokens together.
  virtual bool decodes(std::size_t /*tokens*/) const { return false; }
};

/// y[i] = X W[i]ᵀ for layers of the same input: of a single token, and of as many as they all have
/// decode() for, kernels share what they make.
void apply_all(std::span<const Linear* const> layers, ConstMatrixView x,
               std::span<const MatrixView> y, ThreadPool& pool);

/// Weights as floats: sgemm for several tokens, dot products for one.
std::unique_ptr<Linear> dense_linear(std::shared_ptr<const Matrix> weights);

/// Tokens at a time that are cheaper one by one through a kernel than decoding all weights.
inline constexpr std::size_t kFewTokens = 32;

/// Weights as they are stored.
struct StoredWeights {
  std::size_t rows = 0, cols = 0, bytes = 0;
  std::function<void(MatrixView out, ThreadPool& pool)> decode;  ///< null: by `kernel` alone
  std::unique_ptr<const kernels::Kernel> kernel;  ///< null: none for this type or spec
};
/// In a method's bytes; without its kernel unless asked for.
StoredWeights packed_weights(std::shared_ptr<const quant::Packed> packed, bool with_kernel);

/// Up to `fused` tokens at a time are multiplied straight from the stored bytes, if there is a
/// kernel, and more, as long as they are no more than columns or it rotates nothing, if it has
/// decode(); else weights are decoded for every call into a buffer of the calling thread, which all
/// such layers share and which stays as large as the largest of them: a window's product costs far
/// more than that. With a kernel several tokens go by kernels::panel_path(), without in f32. (What
/// has no kernel had better be decoded once for generation, into a dense_linear().)
std::unique_ptr<Linear> stored_linear(StoredWeights weights, std::size_t fused = kFewTokens);
/// The same of packed_weights().
std::unique_ptr<Linear> packed_linear(std::shared_ptr<const quant::Packed> packed,
                                      std::size_t fused = kFewTokens);

}  // namespace squish::model
