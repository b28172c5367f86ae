#pragma once
#include <cstddef>
#include <cstdint>

/// Products with trellis matrices whose code is a LinearHashCode (squish/quant/trellis_code.h), one
/// table of loops per instruction set.
namespace squish::kernels {

/// A code as the loops look it up. Its hash is linear over GF(2) in the bytes that the state lies
/// in, so no state is ever put together.
struct TrellisTables {
  /// 8 x 8 bit matrices for gf2p8affineqb: from byte q of the state's window, whose first `shift`
  /// bits belong to others, to the hash, and to bits 4 to 7 of the state.
  std::uint64_t hash[8][3], nibble[8][2];
  std::uint8_t sums[256];  ///< tables 0 and 1 by the hash, 128 more
  std::int8_t tables[3][16];
  std::uint8_t low[16], high[16];  ///< hash of the halves of the state's second byte
  bool third;                      ///< whether table 2 is of use
  bool narrow;                     ///< whether states have no more than 12 bits
};

/// Columns of one code, `bits` bits a weight.
struct TrellisPart {
  const TrellisTables* tables;
  const std::uint8_t* codes;  ///< of the first column in group 0; its next byte is as much further
                              ///< as its block has columns
  std::size_t before;         ///< bytes a column that belong to other codes and come first
  std::size_t group_bytes;    ///< from one group of 8 rows to the next
  std::size_t block_bytes;    ///< from one block of 64 columns to the next
  std::size_t cols;           ///< not padded
  const std::int8_t* x;       ///< of these columns, padded with zeros to whole blocks
  const std::int8_t* rest;    ///< like x; null: one product alone
  std::int32_t sum_x, sum_rest;
};

struct TrellisOps {
  /// rows[(8 (g - begin) + r) * stride + j] = factor * value, or that much more (`add`), for groups
  /// begin <= g < end. By bits - 1.
  void (*decode[4])(const TrellisPart& part, const std::uint32_t* after, std::size_t begin,
                    std::size_t end, float factor, bool add, float* rows, std::size_t stride);
  /// sums[8 (g - begin) + r] = row's values . x, and rests the same of rest, for groups begin <= g
  /// < end; after[g] follows g in its ring. By bits - 1, of 1 to 4 bits.
  void (*multiply[4])(const TrellisPart& part, const std::uint32_t* after, std::size_t begin,
                      std::size_t end, std::int32_t* sums, std::int32_t* rests);
};

}  // namespace squish::kernels
