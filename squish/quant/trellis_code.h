#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

/// Which value each state of a trellis stands for.
namespace squish::quant {

/// A bit-shift trellis code (QTIP, arXiv 2406.11235, section 3): a step appends `bits * step` bits
/// to the state, of which it keeps the latest `state_bits`, and yields `step` weights.
struct TrellisCode {
  unsigned bits;        ///< K, a weight
  unsigned state_bits;  ///< L
  unsigned step;        ///< V, weights a step
  /// Of weight i of a step in state s: values[i << state_bits | s]. For weights of unit variance.
  std::vector<float> values;

  unsigned step_bits() const { return bits * step; }
  std::size_t states() const { return std::size_t{1} << state_bits; }
};

/// A code made for vector registers. The state's lowest byte (what the stream holds from the weight
/// on) and a GF(2)-linear hash of the rest give a byte, whose halves look up two tables of 16; a
/// third table, where there is one, is looked up by bits 4 to 7 of the state.
struct LinearHashCode {
  unsigned state_bits = 16;
  std::uint8_t columns[8] = {};    ///< the hash of bit 8 + i of the state
  std::int8_t tables[3][16] = {};  ///< sums within -127 .. 127
  float unit = 1;                  ///< of the tables, for weights of unit variance

  int hash(std::uint32_t state) const;
  /// In units of `unit`.
  int value(std::uint32_t state) const;
  TrellisCode expand(unsigned bits) const;
};

/// "hash" or "fast" below, at 1 to 4 bits.
const LinearHashCode& linear_hash_code(std::string_view name, unsigned bits);

/// Of QTIP's hybrid code: which pair of its table, and whether its first weight is negated.
struct HybEntry {
  std::uint32_t index;
  bool negate;
};
HybEntry hyb_entry(std::uint32_t state);
TrellisCode hyb_code(unsigned bits);

/// The codes by name:
/// - "hash": ours, 16 bits of state; "fast": the same with 12 (13 at 4 bits), a tenth of the time;
/// - "1mad", "3inst": QTIP's computed codes (section 3.1), 16 bits, to unit mean square;
/// - "hyb": QTIP's with a table, two weights a step, 16 bits; at most 2 bits a weight here.
/// The code lives as long as the program.
const TrellisCode& trellis_code(std::string_view name, unsigned bits);

}  // namespace squish::quant
