#pragma once
#include <bit>
#include <cstddef>

#include "squish/base/bits.h"
#include "squish/quant/additive.h"
#include "squish/quant/spec.h"

/// Which sections a VPTQ matrix has, as the comment on vptq.cc says.
namespace squish::quant {

struct VptqLayout : VectorLayout {
  std::size_t main, residual;
  unsigned main_bits, residual_bits;

  VptqLayout(const Spec& spec, std::size_t r, std::size_t c)
      : VectorLayout{r, c, static_cast<std::size_t>(spec.integer("v")), true},
        main(static_cast<std::size_t>(spec.integer("k"))),
        residual(static_cast<std::size_t>(spec.integer("r"))),
        main_bits(static_cast<unsigned>(std::countr_zero(main))),
        residual_bits(static_cast<unsigned>(std::countr_zero(residual))) {}

  unsigned code_bits() const { return main_bits + residual_bits; }
  std::size_t block_bytes() const { return packed_bytes(cols, code_bits()); }
  std::size_t book_bytes() const { return 2 * dim * (main + (residual > 1 ? residual : 0)); }
};

}  // namespace squish::quant
