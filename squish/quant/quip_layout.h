#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "squish/quant/spec.h"

/// Which sections a QuIP# matrix has, as the comment on quip.cc says.
namespace squish::quant {

struct QuipLayout {
  bool gain;
  std::int64_t bits;
  std::size_t rows, cols, row_vectors;

  QuipLayout(const Spec& spec, std::size_t r, std::size_t c)
      : gain(spec.word("form") == "gain"),
        bits(spec.integer("bits")),
        rows(r),
        cols(c),
        row_vectors((c + 7) / 8) {}

  std::size_t vectors() const { return rows * row_vectors; }
  std::size_t stride() const { return 8 * row_vectors; }  // of the rotated matrix
  std::size_t code_bytes() const { return vectors() * (gain ? 1 : 2); }
  /// The other section that vectors have.
  const char* second_name() const { return gain ? "gain" : "residual"; }
  std::size_t second_bytes() const {
    return vectors() * (gain ? 2 : static_cast<std::size_t>(bits - 2));
  }
  /// Rows that one chunk of work takes: small matrices stay on one thread.
  std::size_t grain() const { return std::max<std::size_t>(1, 16384 / stride()); }
};

}  // namespace squish::quant
