#pragma once
#include <cstddef>
#include <cstdint>

/// The loops of viterbi.cc, one table per instruction set (squish/base/isa.h). A path's metric is a
/// u16: its cost above the low `bits` bits, and in these the highest bits of its state, so that the
/// minimum over the predecessors of a state says which it was. Costs saturate.
namespace squish::quant {

/// At most four steps of a trellis of b bits a step. State (j << b | new) comes from the best of
/// j + i * 2^(state_bits - b), whose i goes to back[t], t for the step, where
/// ViterbiEncoder::back() finds it; its error is element s % lanes of errors[t][offsets[s /
/// lanes]].
struct ViterbiStep {
  /// Of 2^state_bits states; those that differ in the highest bits, as many as a pass takes, are
  /// `gap` further apart than their numbers, in `next`, too: else all that is taken together would
  /// be in one set of the first-level cache. 0 where 2^state_bits < lanes * 2^(2 * steps * b).
  const std::uint16_t* metrics;
  std::size_t gap;
  std::uint16_t base;  ///< all of `metrics` are at least that; taken off
  const std::uint16_t* errors[4];
  const std::uint32_t* offsets;
  std::uint16_t* next;
  std::uint8_t* back[4];  ///< a byte for 2^(steps * b) states, of the steps of a pass
};

struct ViterbiOps {
  std::size_t lanes;  ///< metrics that are worked on at a time
  /// out[i] = cost << bits, the cost (2 (x0 - a[i]))^2 / 2^16, or its mean with that of x1 - b[i]
  /// where b is not null; in steps of 2^(bits - 2) from 3 bits on. Doubled differences are clamped
  /// to 16 bits. n is a multiple of `lanes`.
  void (*errors)(const std::int16_t* a, const std::int16_t* b, std::size_t n, std::int16_t x0,
                 std::int16_t x1, int bits, std::uint16_t* out);
  /// steps[b - 1]: how many steps a pass of b bits a step takes; passes[b - 1]: of advance[b - 1].
  unsigned steps[4], passes[4];
  /// Returns the least metric that the last step continued, a lower bound of all of `next`.
  /// 2^state_bits is at least lanes * 2^(steps * b + b).
  std::uint16_t (*advance[4])(unsigned state_bits, const ViterbiStep& step);
};

const ViterbiOps& viterbi_ops();

}  // namespace squish::quant
