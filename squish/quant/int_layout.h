#pragma once
#include <algorithm>
#include <cstddef>
#include <string>

#include "squish/base/bits.h"
#include "squish/quant/spec.h"

/// What the sections of an INT matrix hold, as the comment on int.cc says.
namespace squish::quant {

struct IntLayout {
  unsigned bits;
  bool symmetric, half_scales;
  std::size_t rows, cols, group;

  IntLayout(const Spec& spec, std::size_t r, std::size_t c)
      : bits(static_cast<unsigned>(spec.method().back() - '0')),
        symmetric(spec.integer("sym") == 1),
        half_scales(spec.word("scale") == "f16"),
        rows(r),
        cols(c),
        group(spec.integer("g") == 0 ? c : static_cast<std::size_t>(spec.integer("g"))) {}

  int low() const { return symmetric ? -(1 << (bits - 1)) : 0; }
  int high() const { return symmetric ? (1 << (bits - 1)) - 1 : (1 << bits) - 1; }
  std::size_t groups() const { return (cols + group - 1) / group; }  // of one row
  std::size_t group_size(std::size_t g) const { return std::min(group, cols - g * group); }
  std::size_t row_bytes() const { return packed_bytes(cols, bits); }
  std::size_t scale_bytes() const { return rows * groups() * (half_scales ? 2 : 4); }
};

}  // namespace squish::quant
