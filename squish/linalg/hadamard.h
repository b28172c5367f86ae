#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"

namespace squish::linalg {

/// A Hadamard matrix of `order`, order x order entries of +-1, row-major; empty where none is
/// known here. Williamson's from tables (52, 116, 124, 156, 172), else Paley's first construction
/// (order - 1 a prime, 3 mod 4), else his second (order / 2 - 1 a prime, 1 mod 4), in the layouts
/// of QuIP#'s reference code; not powers of two.
std::vector<float> hadamard_matrix(std::size_t order);

/// The orthogonal n x n matrix U = (Hd_K (x) S) / sqrt(n) of QuIP# (arXiv 2402.04396): S is the
/// Sylvester matrix of order n / K in natural order, Hd_K = hadamard_matrix(K) mixes the K runs
/// that S acts on, K = 4 * (odd part of n), or the next such order with a known matrix (at most
/// kMaxFactor). Where there is none (13696, 10920, odd n), U is block-diagonal: one Sylvester
/// block for each binary digit of n, the largest first. Any n >= 1.
///
/// Hd_K need not be symmetric, so U and its transpose differ. `signs` is a diagonal of +-1, or of
/// +-c where a factor c is to be applied on the way.
class Hadamard {
 public:
  static constexpr std::size_t kMaxFactor = 512;  // mixing costs K operations an element

  explicit Hadamard(std::size_t n);

  std::size_t size() const { return size_; }
  /// K; 1 where U consists of Sylvester blocks alone.
  std::size_t factor() const { return factor_; }

  /// W <- W diag(signs) U, for W of any number of rows and n columns; the inverse is
  /// W <- W U' diag(signs).
  void rotate_rows(MatrixView w, std::span<const float> signs, ThreadPool& pool) const;
  void unrotate_rows(MatrixView w, std::span<const float> signs, ThreadPool& pool) const;
  /// W <- U' diag(signs) W, for W of n rows and any number of columns; the inverse is
  /// W <- diag(signs) U W.
  void rotate_columns(MatrixView w, std::span<const float> signs, ThreadPool& pool) const;
  void unrotate_columns(MatrixView w, std::span<const float> signs, ThreadPool& pool) const;

  /// signs / sqrt(order of the block): the loops need not scale.
  std::vector<float> factors(std::span<const float> signs) const;
  /// The same for one vector of n elements, factors(signs) made once: x <- x diag(signs) U, and
  /// x <- x U' diag(signs).
  void rotate(std::span<float> x, std::span<const float> factors) const;
  void unrotate(std::span<float> x, std::span<const float> factors) const;

 private:
  void transform(AlignedVector<float>& strip, AlignedVector<float>& scratch, bool inverse) const;
  void transform_one(std::span<float> x, bool inverse) const;
  void transform_rows(MatrixView w, std::span<const float> signs, bool inverse,
                      ThreadPool& pool) const;
  void transform_columns(MatrixView w, std::span<const float> signs, bool inverse,
                         ThreadPool& pool) const;
  template <class Body>
  void for_strips(std::size_t vectors, ThreadPool& pool, const Body& body) const;

  std::size_t size_, factor_ = 1;
  AlignedVector<float> matrix_, transposed_;  // Hd_K and its transpose; empty where K = 1
  std::vector<std::size_t> blocks_;           // orders of the Sylvester blocks; K equal ones
};

}  // namespace squish::linalg
