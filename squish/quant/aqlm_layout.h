#pragma once
#include <cstddef>

#include "squish/base/bits.h"
#include "squish/quant/additive.h"
#include "squish/quant/spec.h"

/// Which sections an AQLM matrix has, as the comment on aqlm.cc says.
namespace squish::quant {

struct AqlmLayout : VectorLayout {
  std::size_t books;
  unsigned bits;

  AqlmLayout(const Spec& spec, std::size_t r, std::size_t c)
      : VectorLayout{r, c, static_cast<std::size_t>(spec.integer("g")), false},
        books(static_cast<std::size_t>(spec.integer("m"))),
        bits(static_cast<unsigned>(spec.integer("b"))) {}

  std::size_t entries() const { return std::size_t{1} << bits; }
  std::size_t row_bytes() const { return packed_bytes(blocks() * books, bits); }
  std::size_t book_bytes() const { return 2 * dim * entries(); }
};

}  // namespace squish::quant
