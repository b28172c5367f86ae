#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "squish/quant/spec.h"
#include "squish/quant/trellis_code.h"

/// Where the section `codes` of a trellis matrix has what, as the comment on trellis.cc says.
namespace squish::quant {

/// Of one code; more are the sum of two.
inline constexpr unsigned kMostTrellisBits = 4;

/// One code of those whose sum gives a weight its bits.
struct TrellisStage {
  const TrellisCode& code;
  float gain;
};
/// Of 1 to 8 bits a weight.
std::vector<TrellisStage> trellis_stages(const std::string& code, unsigned bits);

/// What the spec asks for, for a matrix of n columns: `low` bits a weight, and one more in the
/// first `high_cols`, which are whole blocks.
struct TrellisRates {
  unsigned low;
  std::size_t high_cols = 0;

  TrellisRates(const Spec& spec, std::size_t cols);
  unsigned bits(std::size_t col) const { return low + (col < high_cols ? 1 : 0); }
};

struct TrellisLayout {
  static constexpr std::size_t kGroup = 8, kBlock = 64, kTile = 16;

  TrellisRates rates;
  bool tiles;
  std::size_t rows, cols, groups = 0, stream_groups = 0;

  TrellisLayout(const Spec& spec, std::size_t rows, std::size_t cols);
  std::size_t group_bytes() const { return cols * rates.low + rates.high_cols; }
  std::size_t code_bytes() const {
    return tiles ? tile_rows() * tile_cols() * tile_bytes() : groups * group_bytes();
  }
  std::size_t tile_rows() const { return (rows + kTile - 1) / kTile; }
  std::size_t tile_cols() const { return (cols + kTile - 1) / kTile; }
  std::size_t tile_bytes() const { return kTile * kTile * rates.low / 8; }
  /// Of a ring of weights.
  std::size_t ring_rows() const { return tiles ? kTile : kGroup * stream_groups; }
  std::size_t ring_cols() const { return tiles ? kTile : 1; }
  /// Of the lowest byte of column j in a group; the next is `block_width(j)` further.
  std::size_t address(std::size_t group, std::size_t j) const {
    const std::size_t block = j / kBlock * kBlock;
    return group * group_bytes() + block * rates.low + std::min(block, rates.high_cols) +
           j % kBlock;
  }
  std::size_t block_width(std::size_t j) const {
    return std::min(kBlock, cols - j / kBlock * kBlock);
  }
  /// Groups of the stream that begins with `first`.
  std::size_t length(std::size_t first) const { return std::min(stream_groups, groups - first); }
  /// The group that follows in its ring.
  std::size_t after(std::size_t group) const {
    const std::size_t first = group / stream_groups * stream_groups;
    return group + 1 == first + length(first) ? first : group + 1;
  }
};

}  // namespace squish::quant
