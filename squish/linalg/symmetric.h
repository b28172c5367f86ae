#pragma once
#include <cstddef>

#include "squish/base/buffer.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"

namespace squish::linalg {

/// An n x n matrix of doubles, zero at birth, of which both triangles are kept.
class SymmetricMatrix {
 public:
  SymmetricMatrix() = default;
  explicit SymmetricMatrix(std::size_t n) : n_(n), data_(n * n) {}

  std::size_t size() const { return n_; }
  double* data() { return data_.data(); }
  const double* data() const { return data_.data(); }
  /// Writing to (i, j) is writing to (j, i) as well: the caller's duty.
  double& operator()(std::size_t i, std::size_t j) { return data_[i * n_ + j]; }
  double operator()(std::size_t i, std::size_t j) const { return data_[i * n_ + j]; }

 private:
  std::size_t n_ = 0;
  AlignedVector<double> data_;
};

/// tr(A H A'), the sum of a H a' over the rows a of A; A has n columns.
double trace_of_form(ConstMatrixView a, const SymmetricMatrix& h, ThreadPool& pool);

}  // namespace squish::linalg
