#pragma once
#include <algorithm>
#include <cassert>
#include <cstddef>
#include <span>
#include <type_traits>

#include "squish/base/buffer.h"

namespace squish {

/// A row-major window on floats that somebody else owns: element (i, j) is data[i * stride + j].
template <class T>
struct BasicMatrixView {
  T* data = nullptr;
  std::size_t rows = 0, cols = 0, stride = 0;

  BasicMatrixView() = default;
  BasicMatrixView(T* d, std::size_t r, std::size_t c) : data(d), rows(r), cols(c), stride(c) {}
  BasicMatrixView(T* d, std::size_t r, std::size_t c, std::size_t s)
      : data(d), rows(r), cols(c), stride(s) {}
  /// A mutable view is usable as a const one.
  template <class U>
  requires(std::is_same_v<const U, T>)
      BasicMatrixView(const BasicMatrixView<U>& other)  // NOLINT: implicit by design
      : data(other.data), rows(other.rows), cols(other.cols), stride(other.stride) {}

  T& operator()(std::size_t i, std::size_t j) const { return data[i * stride + j]; }
  std::span<T> row(std::size_t i) const { return {data + i * stride, cols}; }
  std::size_t size() const { return rows * cols; }
  /// Rows [begin, end).
  BasicMatrixView row_range(std::size_t begin, std::size_t end) const {
    assert(begin <= end && end <= rows);
    return {data + begin * stride, end - begin, cols, stride};
  }
  /// Columns [begin, end).
  BasicMatrixView col_range(std::size_t begin, std::size_t end) const {
    assert(begin <= end && end <= cols);
    return {data + begin, rows, end - begin, stride};
  }
};

using MatrixView = BasicMatrixView<float>;
using ConstMatrixView = BasicMatrixView<const float>;

/// To a matrix of the same size.
inline void copy_rows(ConstMatrixView from, MatrixView to) {
  assert(from.rows == to.rows && from.cols == to.cols);
  for (std::size_t i = 0; i < from.rows; ++i) std::ranges::copy(from.row(i), to.row(i).data());
}

/// A row-major matrix of floats that owns its memory, zero at birth.
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::size_t rows, std::size_t cols) : rows_(rows), cols_(cols), data_(rows * cols) {}

  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t size() const { return data_.size(); }
  float* data() { return data_.data(); }
  const float* data() const { return data_.data(); }
  float& operator()(std::size_t i, std::size_t j) { return data_[i * cols_ + j]; }
  float operator()(std::size_t i, std::size_t j) const { return data_[i * cols_ + j]; }
  std::span<float> row(std::size_t i) { return {data() + i * cols_, cols_}; }
  std::span<const float> row(std::size_t i) const { return {data() + i * cols_, cols_}; }

  MatrixView view() { return {data(), rows_, cols_}; }
  ConstMatrixView view() const { return {data(), rows_, cols_}; }
  operator MatrixView() { return view(); }             // NOLINT: implicit by design
  operator ConstMatrixView() const { return view(); }  // NOLINT: implicit by design

 private:
  std::size_t rows_ = 0, cols_ = 0;
  AlignedVector<float> data_;
};

}  // namespace squish
