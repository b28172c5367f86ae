#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "squish/base/bits.h"
#include "squish/quant/additive.h"
#include "squish/quant/spec.h"

/// Which sections a VPTQ matrix has, as the comment on vptq.cc says.
namespace squish::quant {

/// Columns that have codebooks of their own.
struct VptqPart : VectorLayout {
  std::size_t main, residual;
  unsigned main_bits, residual_bits;
  std::size_t codes_at = 0, books_at = 0;  ///< where theirs begin in `q` and `codebook`

  VptqPart(std::size_t m, std::size_t n, std::size_t v, std::size_t k, std::size_t r);

  /// Of the codebooks.
  std::vector<std::size_t> sizes() const;
  unsigned code_bits() const { return main_bits + residual_bits; }
  std::size_t block_bytes() const { return packed_bytes(cols, code_bits()); }
  std::size_t code_bytes() const { return blocks() * block_bytes(); }
  std::size_t book_bytes() const { return 2 * dim * (main + (residual > 1 ? residual : 0)); }
};

struct VptqLayout {
  std::size_t rows, cols;
  std::vector<VptqPart> parts;  ///< outlier columns, if there are any, then the groups; none empty
  std::size_t code_bytes = 0, book_bytes = 0;

  VptqLayout(const Spec& spec, std::size_t r, std::size_t c);

  /// Of the number of a column's part; 0 where there is one part.
  unsigned column_bits() const;
  std::size_t column_bytes() const { return packed_bytes(cols, column_bits()); }
  /// The columns of each part, ascending, from the section `columns` of the matrix, which one of a
  /// single part lacks. Error if they are not as many as they should be.
  std::vector<std::vector<std::uint32_t>> columns(const Packed& packed) const;
};

}  // namespace squish::quant
