#pragma once
#include <cstddef>
#include <cstdint>

/// Products with sums of codebook entries, what AQLM and VPTQ have in common: the line l of a
/// matrix makes the vector sum_j x_j * (sum_b book_b[code_b(l, j)]), component by component. A
/// table of loops per instruction set.
namespace squish::kernels {

/// Components that are worked out together; entries are padded with zeros to 1, 2 or 4 times these.
inline constexpr std::size_t kEntryLanes = 8;
inline constexpr std::size_t kMostBooks = 8;

struct AdditiveBook {
  const std::byte* entries;
  bool halves;               ///< f16, else f32
  unsigned entry_shift;      ///< an entry takes 1 << entry_shift bytes
  unsigned first_bit, bits;  ///< of its index in a code, at most 16
};

struct AdditivePart {
  const std::uint8_t* codes;  ///< line by line, each from a byte on, LSB first
  std::size_t bytes;          ///< of all codes
  std::size_t line_bytes, steps;
  unsigned code_bits, books;
  AdditiveBook book[kMostBooks];
  const float* x;  ///< steps factors, or vectors of as many components as entries
};

struct AdditiveOps {
  /// Lines that are worked out together.
  static constexpr std::size_t lines(std::size_t vectors) { return 8 / vectors; }

  bool halves;  ///< whether books may be of halves
  /// out = the vectors of lines [begin, end), padded as entries are. By whether x has one factor
  /// for all components, and log2 of kEntryLanes' multiple.
  void (*multiply[2][3])(const AdditivePart& part, std::size_t begin, std::size_t end, float* out);
};

}  // namespace squish::kernels
