#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/kernels/constants.h"
#include "squish/linalg/hadamard.h"
#include "squish/quant/quantizer.h"

/// y = What x, straight from a method's codes: What is never formed. Of one token: where a
/// codebook is of small integers, products are too: the input is rounded first, once for all
/// matrices that share it, to 8 bits and what they leave to 8 more; formats so coarse that it
/// hardly shows have the first 8 alone. Several tokens are multiplied by decoded rows
/// (squish/kernels/panel.h).
namespace squish::kernels {

/// A random Hadamard transform of vectors (squish/quant/incoherence.h), ready for use.
struct Rotation {
  linalg::Hadamard hadamard;
  std::vector<float> factors;  ///< of its diagonal, hadamard.factors()

  /// `scale` times the transform with these signs.
  Rotation(std::span<const std::byte> signs, std::size_t n, float scale = 1);
};

/// What an input becomes before it is multiplied.
struct InputForm {
  std::size_t cols = 0;
  std::shared_ptr<const Rotation> rotation = nullptr;  ///< null: none
  /// Whether each block has a scale of its own; else there is one for all, which rotated inputs can
  /// bear.
  bool scale_by_block = false;
  /// Whether products are of Input.x itself, which is then not rounded here.
  bool floats = false;

  bool operator==(const InputForm& other) const;
};

/// x = scale * q up to rounding and scale * (q + rest / 2 ^ kRestBits) up to a rounding 250 times
/// as fine; the scale of what is not finite is NaN. A form of floats has x alone, and rest is empty
/// where no kernel wants it.
struct Input {
  AlignedVector<float> x;                ///< rotated, padded
  AlignedVector<std::int8_t> q, rest;    ///< -127 .. 127; -128 .. 127; padded
  AlignedVector<float> scale;            ///< one a block, equal unless scale_by_block
  AlignedVector<std::int32_t> sum;       ///< of q, one a block
  AlignedVector<std::int32_t> rest_sum;  ///< of rest

  std::size_t blocks() const { return scale.size(); }
};

/// With the rest if it is to be `fine`.
void make_input(const InputForm& form, std::span<const float> x, bool fine, Input& out);

/// A matrix as a kernel wants it, made once: some keep the stored bytes, some put codes in an order
/// of their own.
class Kernel {
 public:
  Kernel(std::size_t rows, InputForm form, std::size_t row_step, bool fine = false,
         std::shared_ptr<const Rotation> output = nullptr)
      : rows_(rows),
        form_(std::move(form)),
        row_step_(row_step),
        fine_(fine),
        output_(std::move(output)) {}
  virtual ~Kernel() = default;

  std::size_t rows() const { return rows_; }
  const InputForm& form() const { return form_; }
  /// What y is to be rotated back by when all rows are there; null: nothing.
  const Rotation* output() const { return output_.get(); }
  /// Rows that are worked out together: multiply() is asked for runs that begin at multiples.
  std::size_t row_step() const { return row_step_; }
  /// Whether it multiplies by Input.rest too.
  bool fine() const { return fine_; }
  /// Rows that one of so many threads takes at a time, a multiple of row_step(): a few runs each,
  /// of equal length, unless they would be too short to hand out.
  std::size_t run_rows(int threads) const;

  /// What multiply() looks up, where that depends on the input; once for each input.
  virtual void tabulate(const Input& /*x*/, Bytes& /*tables*/) const {}
  /// Rows [begin, end) of y, which holds all of them. The same on all instruction sets wherever the
  /// arithmetic is of integers, and for any cut into runs.
  virtual void multiply(const Input& x, const Bytes& tables, std::size_t begin, std::size_t end,
                        float* y) const = 0;

  /// Whether it has decode().
  virtual bool decodes() const { return false; }
  /// Rows [begin, end) of the matrix between the two rotations, one after the other, as floats;
  /// begin is a multiple of row_step(), and `rows` has room for as many as end at one, too.
  virtual void decode(std::size_t /*begin*/, std::size_t /*end*/, float* /*rows*/) const {}

 private:
  std::size_t rows_;
  InputForm form_;
  std::size_t row_step_;
  bool fine_;
  std::shared_ptr<const Rotation> output_;
};

/// Null where the matrix's spec has no kernel. Error if its sections do not fit the spec. The
/// instruction set is that in use now.
std::unique_ptr<const Kernel> make_kernel(std::shared_ptr<const quant::Packed> packed);

/// One matrix of those that are multiplied by the same x, and where its product goes.
struct Product {
  const Kernel* kernel;
  std::span<float> y;
};

/// All products, sharing what they can. The results do not depend on the number of threads.
void multiply(std::span<const Product> products, std::span<const float> x, ThreadPool& pool);

}  // namespace squish::kernels
