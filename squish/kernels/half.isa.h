#pragma once
#include <cstddef>
#include <cstdint>

/// Products with matrices of floats, half floats and signed bytes, one table of loops per
/// instruction set; halves are rounded to nearest.
namespace squish::kernels {

/// Rows that are worked out together: they share what is loaded of the input.
inline constexpr std::size_t kRows = 4;

struct HalfOps {
  /// y[begin .. end) of the product of `values`, `cols` a row, with x, which is padded with zeros
  /// to whole vectors; begin is a multiple of kRows.
  typedef void (*Multiply)(const std::byte* values, std::size_t cols, const float* x,
                           std::size_t begin, std::size_t end, float* y);
  Multiply f32, f16, bf16, i8;

  /// y[0 .. cols) = the sum of the rows of `values`, each times its weight.
  typedef void (*Combine)(const std::byte* values, std::size_t rows, std::size_t cols,
                          const float* weights, float* y);
  Combine combine_f32, combine_f16, combine_i8;

  void (*narrow)(const float* x, std::size_t n, std::uint16_t* f16);
  /// n values as floats.
  typedef void (*Widen)(const std::byte* values, std::size_t n, float* x);
  Widen copy, widen_f16, widen_bf16, widen_i8;
};

const HalfOps& half_ops();

}  // namespace squish::kernels
