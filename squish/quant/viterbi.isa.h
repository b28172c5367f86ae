#pragma once
#include <cstddef>
#include <cstdint>

/// The loops of viterbi.cc, one table per instruction set (squish/base/isa.h). A path's metric is a
/// u16: its cost above the low `bits` bits, and in these the highest bits of its state, so that the
/// minimum over the predecessors of a state says which it was. Costs saturate.
namespace squish::quant {

struct ViterbiOps {
  std::size_t lanes;  ///< metrics that are worked on at a time
  /// out[i] = min((x0 - a[i])^2 [+ (x1 - b[i])^2], cap), rounded, << bits. b may be null.
  void (*errors)(const float* a, const float* b, std::size_t n, float x0, float x1, float cap,
                 int bits, std::uint16_t* out);
  /// step[b - 1], b = 1 to 4: one step of a trellis of b bits a step and `state_bits` bits of
  /// state, from `metrics` of 2^state_bits states, all at least `base`, to `next`, which are less
  /// by `base`. State (j << b | new) comes from the best of j + i * 2^(state_bits - b), whose i
  /// goes to back[j]; its error is element s % lanes of errors[offsets[s / lanes]]. Returns the
  /// least metric that was continued, a lower bound of all of `next` + base.
  std::uint16_t (*step[4])(unsigned state_bits, const std::uint16_t* metrics, std::uint16_t base,
                           const std::uint16_t* errors, const std::uint32_t* offsets,
                           std::uint16_t* next, std::uint8_t* back);
};

const ViterbiOps& viterbi_ops();

}  // namespace squish::quant
