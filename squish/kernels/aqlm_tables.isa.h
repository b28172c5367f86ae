#pragma once
#include <cstddef>
#include <cstdint>

/// Products with matrices of AQLM whose codes are bytes, by tables of partial products: what each
/// entry of a codebook makes of each group of the input, in 16 bits, is worked out once, and rows
/// look it up, 64 at a time.
namespace squish::kernels {

/// Rows that look up together, a byte lane each.
inline constexpr std::size_t kTableRows = 64;
inline constexpr std::size_t kTableEntries = 256;
/// The low bytes of all entries, then the high ones.
inline constexpr std::size_t kTableBytes = 2 * kTableEntries;
struct AqlmTables {
  std::size_t cols, dim, books, groups;
  std::size_t padded;         ///< dim, or more, zeros: a multiple of 8
  std::size_t row_blocks;     ///< of kTableRows
  const float* columns;       ///< book by book, component by component: of all entries
  const float* entries;       ///< book by book, entry by entry: padded
  float norms;                ///< the largest of each book's entries, added up
  const std::uint8_t* codes;  ///< group by group, row block by row block, book by book: of
                              ///< kTableRows rows, as lane_of_row() says
  const float* scales;        ///< by row
};

/// The byte that a row of a block has: pairing low and high bytes and widening even and odd words
/// then leaves them in the order of the rows.
constexpr std::size_t lane_of_row(std::size_t row) {
  const std::size_t quarter = row / 16, word = row % 16 * 2 + quarter % 2;
  return word / 8 * 16 + quarter / 2 * 8 + word % 8;
}

struct AqlmTableOps {
  bool usable;  ///< false: there is nothing else
  /// Tables of all groups, kTableBytes a book, each group's over its scale. x is padded with zeros
  /// to whole groups.
  void (*tabulate)(const AqlmTables& m, const float* x, std::uint8_t* tables, float* scales);
  /// y[begin .. end), where begin is a multiple of kTableRows; `sums` has room for whole blocks.
  void (*multiply)(const AqlmTables& m, const std::uint8_t* tables, const float* scales,
                   std::size_t begin, std::size_t end, float* sums, float* y);
  /// Rows [begin, end) one after the other; begin as above.
  void (*decode)(const AqlmTables& m, std::size_t begin, std::size_t end, float* rows);
};

}  // namespace squish::kernels
