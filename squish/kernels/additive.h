#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/kernels/additive.isa.h"

/// What the kernels of AQLM and VPTQ share.
namespace squish::kernels {

/// Codebooks of one matrix, as the loops want them.
class AdditiveBooks {
 public:
  /// `stored`, which must outlive this: all books, f16, entries of `dim` components.
  AdditiveBooks(std::span<const std::byte> stored, std::size_t dim,
                std::span<const std::size_t> sizes);
  AdditiveBooks(AdditiveBooks&&) = default;  // no copies: its parts point into it

  /// Vectors of kEntryLanes that an entry takes.
  std::size_t vectors() const { return vectors_; }
  /// Lines that multiply() works out together.
  std::size_t lines() const { return AdditiveOps::lines(vectors_); }
  /// Sets the books of a part, but for where in a code their indices are.
  void set(AdditivePart& part) const;
  /// The vectors of lines [begin, end); `spread`: x has one factor for all components.
  void multiply(const AdditivePart& part, bool spread, std::size_t begin, std::size_t end,
                float* out) const;

 private:
  const AdditiveOps& ops_;
  std::size_t vectors_;
  std::vector<AdditiveBook> books_;
  std::vector<Bytes> entries_;
};

}  // namespace squish::kernels
