#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace squish {

/// One block of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
/// 2011). Counter and key are little-endian: word 0 is the low half of the first number.
std::array<std::uint32_t, 4> philox4x32(std::uint64_t counter_low, std::uint64_t counter_high,
                                        std::uint64_t key);

/// Counter-based random numbers: value `i` of a stream is a pure function of (seed, key, i), the
/// same for every number of threads and in whatever order it is asked for.
class CounterRng {
 public:
  /// `key` names what the numbers are for, so that two uses never share a stream.
  CounterRng(std::uint64_t seed, std::string_view key);

  std::uint64_t bits(std::uint64_t i) const;
  /// Uniform in [0, 1), 53 bits.
  double uniform(std::uint64_t i) const;
  /// Standard normal (Box-Muller, one value a counter).
  double normal(std::uint64_t i) const;
  /// Uniform in [0, n), n > 0 (bias below 2^-64 * n).
  std::uint64_t below(std::uint64_t i, std::uint64_t n) const;

 private:
  std::uint64_t seed_, stream_;
};

}  // namespace squish
