#pragma once
#include <algorithm>
#include <cassert>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "squish/base/buffer.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"

namespace squish::linalg {

/// Elements in the upper triangle of an n x n matrix.
constexpr std::size_t triangle_size(std::size_t n) { return n * (n + 1) / 2; }
/// Where row i of it begins: the elements (i, i) to (i, n - 1), rows follow one another.
constexpr std::size_t triangle_row(std::size_t i, std::size_t n) { return i * (2 * n - i + 1) / 2; }

/// An n x n matrix of doubles, row by row, zero at birth: what is factored in place.
class SquareMatrix {
 public:
  explicit SquareMatrix(std::size_t n) : n_(n), data_(n * n) {}

  std::size_t size() const { return n_; }
  double* data() { return data_.data(); }
  const double* data() const { return data_.data(); }
  double& operator()(std::size_t i, std::size_t j) { return data_[i * n_ + j]; }
  double operator()(std::size_t i, std::size_t j) const { return data_[i * n_ + j]; }

 private:
  std::size_t n_;
  AlignedVector<double> data_;
};

/// A symmetric n x n matrix of doubles, of which the upper triangle is kept: its own, zero at
/// birth, or somebody else's (of a mapped file, say), times a factor.
class SymmetricMatrix {
 public:
  SymmetricMatrix() = default;
  explicit SymmetricMatrix(std::size_t n) : n_(n), own_(triangle_size(n)) {}
  /// `owner` keeps the triangle alive.
  SymmetricMatrix(std::size_t n, std::span<const double> triangle, double scale,
                  std::shared_ptr<const void> owner)
      : n_(n), borrowed_(triangle.data()), scale_(scale), owner_(std::move(owner)) {
    assert(triangle.size() == triangle_size(n));
  }

  std::size_t size() const { return n_; }
  double operator()(std::size_t i, std::size_t j) const {
    const double* const values = borrowed_ != nullptr ? borrowed_ : own_.data();
    return values[index(i, j)] * scale_;
  }
  /// Writing to (i, j) is writing to (j, i) as well. Not where it is somebody else's.
  double& at(std::size_t i, std::size_t j) {
    assert(borrowed_ == nullptr);
    return own_[index(i, j)];
  }

 private:
  std::size_t index(std::size_t i, std::size_t j) const {
    return i <= j ? triangle_row(i, n_) + j - i : triangle_row(j, n_) + i - j;
  }

  std::size_t n_ = 0;
  AlignedVector<double> own_;
  const double* borrowed_ = nullptr;
  double scale_ = 1;
  std::shared_ptr<const void> owner_;
};

/// Calls write(i, j, value) for every element, in an order that is easy on caches.
template <class Write>
void for_each_element(const SymmetricMatrix& h, const Write& write) {
  constexpr std::size_t kTile = 32;
  const std::size_t n = h.size();
  for (std::size_t top = 0; top < n; top += kTile) {
    for (std::size_t left = top; left < n; left += kTile) {
      for (std::size_t i = top; i < std::min(n, top + kTile); ++i) {
        for (std::size_t j = std::max(i, left); j < std::min(n, left + kTile); ++j) {
          const double value = h(i, j);
          write(i, j, value);
          if (i != j) write(j, i, value);
        }
      }
    }
  }
}

/// The whole of it.
SquareMatrix expand(const SymmetricMatrix& h);

/// tr(A H A'), the sum of a H a' over the rows a of A; A has n columns. The same for any number of
/// threads.
double trace_of_form(ConstMatrixView a, const SymmetricMatrix& h, ThreadPool& pool);

}  // namespace squish::linalg
