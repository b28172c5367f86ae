#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/quant/trellis_code.h"

/// The best path through a trellis (Viterbi), tail-biting: a stream is a ring, whose last states
/// run on into the symbols at its beginning, so that it takes exactly bits * rows bits. First the
/// best path with free ends, then the best around the seam that meets it on both sides. QTIP
/// (section 3.3) searches for the state at the seam first, by a whole pass, and then codes all.
namespace squish::quant {

/// A code as the encoder wants it, for the instruction set in use. Where few runs of consecutive
/// states differ (a linear hash), the errors of each are worked out once a step.
class ViterbiCode {
 public:
  explicit ViterbiCode(const TrellisCode& code);

  const TrellisCode& code() const { return code_; }

 private:
  friend class ViterbiEncoder;
  std::int16_t whole(float x) const;

  const TrellisCode& code_;
  double unit_;                                      // of whole(), in deviations of the weights
  std::vector<AlignedVector<std::int16_t>> values_;  // by weight of a step; runs of `lanes`
  std::vector<std::uint32_t> offsets_;               // into them, by run of states
};

/// Buffers for one thread.
class ViterbiEncoder {
 public:
  explicit ViterbiEncoder(const ViterbiCode& code);

  /// symbols[q] = the step_bits() bits that step q appends; weights q * V .. of `x` are nearest to
  /// those of state(symbols, q). x.size() is symbols.size() * V or less: what is missing counts
  /// nothing. The ring must hold 4 states, symbols.size() * step_bits() >= 4 * state_bits, and a
  /// multiple of 4 steps.
  void encode(std::span<const float> x, std::span<std::uint16_t> symbols);

 private:
  static constexpr std::int64_t kAny = -1;
  /// The best path through `steps` steps of the ring from step `first` on. Where they are given,
  /// the state after the last step has the low state_bits - step_bits bits `after`, and the first
  /// state `low`. Leaves the states in path_.
  void best_path(std::span<const float> x, std::size_t ring, std::size_t first, std::size_t steps,
                 std::int64_t low, std::int64_t after);

  /// Of the states j + i * 2^(state_bits - step_bits), i of the best one after step q of `steps`.
  std::size_t back(std::size_t q, std::size_t steps, std::size_t j) const;
  /// Where a state's metric is.
  std::size_t place(std::size_t state) const { return state + (state >> segment_bits_) * gap_; }

  const ViterbiCode& code_;
  unsigned segment_bits_;  // of the states whose metrics are side by side
  std::size_t gap_;        // then follows
  AlignedVector<std::uint16_t> metrics_, next_, errors_;
  AlignedVector<std::uint8_t> back_;
  std::vector<std::uint32_t> path_;
};

/// State of step `q`: its symbol lowest, then those of the steps after it, around the ring.
std::uint32_t trellis_state(const TrellisCode& code, std::span<const std::uint16_t> symbols,
                            std::size_t q);

/// What weight `i` of the ring is decoded to.
float trellis_value(const TrellisCode& code, std::span<const std::uint16_t> symbols, std::size_t i);

/// Encoders that threads take and give back.
class ViterbiPool {
 public:
  explicit ViterbiPool(const TrellisCode& code) : code_(code) {}
  const TrellisCode& code() const { return code_.code(); }
  void encode(std::span<const float> x, std::span<std::uint16_t> symbols);

 private:
  const ViterbiCode code_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<ViterbiEncoder>> idle_;
};

}  // namespace squish::quant
