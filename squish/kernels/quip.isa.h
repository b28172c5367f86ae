#pragma once
#include <cstddef>
#include <cstdint>

/// Products with QuIP#'s codebooks (squish/quant/e8p.h), one table of loops per instruction set.
namespace squish::kernels {

/// E8P for look-ups. 16 plus 4 times a value has five bits, which are linear over GF(2) in the
/// bits of the sign byte and of the row: flipping a sign turns all but the lowest two, as these are
/// the shift's.
struct E8pLookup {
  static constexpr int kOffset = 16;

  /// 16 + 4 * the code's vector = rows[code >> 8] ^ signs[code & 255], a byte a coordinate.
  std::uint64_t rows[256], signs[256];
  /// The same in less: coordinate 4 h + i of a row is bits 2 i and 2 i + 1 of its byte in
  /// halves[h], 0 to 2 for 1/2 to 5/2. Matrices for gf2p8affineqb take bytes of halves and signs to
  /// coordinates; from the first half to the last coordinate goes the parity of the row, of which
  /// the second's matrix for that coordinate has its own part.
  std::uint8_t halves[2][256];
  std::uint64_t of_half[8], of_first_half, of_signs[8];
};

/// E81B for look-ups, 4 plus 2 times a value: a byte, or half a byte, a coordinate.
struct E81bLookup {
  static constexpr int kOffset = 4;

  std::uint64_t points[256];
  std::uint8_t pairs[4][256];  ///< coordinate p in the low half, p + 4 in the high one
};

/// Codes of one section, row by row.
struct QuipPart {
  const std::uint8_t* codes;
  std::size_t bytes;  ///< of all codes
  std::size_t row_vectors;
  const std::int8_t* x;     ///< arranged
  const std::int8_t* rest;  ///< like x; null: one product alone
};

struct QuipOps {
  /// Blocks of 64 elements into the order in which the products want them. Writes
  /// arranged_bytes(blocks).
  void (*arrange)(const std::int8_t* x, std::size_t blocks, std::int8_t* out);
  /// sums[r - begin] = row r's looked-up values . x, and rests the same of rest, for rows
  /// begin <= r < end.
  void (*multiply_e8p)(const E8pLookup& table, const QuipPart& part, std::size_t begin,
                       std::size_t end, std::int32_t* sums, std::int32_t* rests);
  void (*multiply_e81b)(const E81bLookup& table, const QuipPart& part, std::size_t begin,
                        std::size_t end, std::int32_t* sums, std::int32_t* rests);
};

/// Bytes that a row of `blocks` blocks of 64 takes once arranged.
constexpr std::size_t arranged_bytes(std::size_t blocks) { return (blocks + 1) / 2 * 128; }

}  // namespace squish::kernels
