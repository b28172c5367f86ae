#pragma once
#include <cstddef>
#include <cstdint>

/// The loops of viterbi.cc, one table per instruction set (squish/base/isa.h). A path's metric is a
/// u16: its cost above the low `bits` bits, and in these the highest bits of its state, so that the
/// minimum over the predecessors of a state says which it was. Costs saturate.
namespace squish::quant {

/// At most four steps of a trellis of b bits a step. State (j << b | new) comes from the best of
/// j + i * 2^(state_bits - b), whose i goes to back[t][j], t for the step; its error is element
/// s % lanes of errors[t][offsets[s / lanes]].
struct ViterbiStep {
  const std::uint16_t* metrics;  ///< of 2^state_bits states
  std::uint16_t base;            ///< all of `metrics` are at least that; taken off
  const std::uint16_t* errors[4];
  const std::uint32_t* offsets;
  std::uint16_t* next;
  std::uint8_t* back[4];
};

struct ViterbiOps {
  std::size_t lanes;  ///< metrics that are worked on at a time
  /// out[i] = cost << bits, the cost (2 (x0 - a[i]))^2 / 2^16, or its mean with that of x1 - b[i]
  /// where b is not null; in steps of 2^(bits - 2) from 3 bits on. Doubled differences are clamped
  /// to 16 bits. n is a multiple of `lanes`.
  void (*errors)(const std::int16_t* a, const std::int16_t* b, std::size_t n, std::int16_t x0,
                 std::int16_t x1, int bits, std::uint16_t* out);
  /// steps[b - 1]: how many steps advance[b - 1] takes, for b = 1 to 4.
  int steps[4];
  /// Returns the least metric that the last step continued, a lower bound of all of `next`.
  /// 2^state_bits is at least lanes * 2^(steps * b + b).
  std::uint16_t (*advance[4])(unsigned state_bits, const ViterbiStep& step);
};

const ViterbiOps& viterbi_ops();

}  // namespace squish::quant
