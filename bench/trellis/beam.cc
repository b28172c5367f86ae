// The beam of fewer survivors over a longer memory (the M-algorithm), beside the Viterbi algorithm:
// the SNR and time of coding one long Gaussian stream by the default code, its hash continued at
// random to STATE_BITS bits. No ring has to be closed, so its figures are a little above those
// of rings.
//   trellis_beam BITS STATE_BITS SURVIVORS [ROWS [SEED]]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "squish/base/random.h"
#include "squish/quant/trellis_code.h"

namespace squish::quant {
namespace {

constexpr std::size_t kFewStates = 1024;  // for each survivor

struct Path {
  std::uint32_t state;
  float loss;
};

class Beam {
 public:
  Beam(unsigned bits, unsigned state_bits, std::size_t survivors, std::uint64_t seed)
      : code_(linear_hash_code("hash", bits)),
        bits_(bits),
        mask_(static_cast<std::uint32_t>((std::uint64_t{1} << state_bits) - 1)),
        survivors_(survivors) {
    const CounterRng rng(seed, "beam");
    for (unsigned b = 8; b < state_bits; ++b) {
      columns_.push_back(b < code_.state_bits ? code_.columns[b - 8]
                                              : static_cast<std::uint8_t>(rng.bits(b)));
    }
    // The hash by bytes of the state.
    for (unsigned byte = 1; byte < 4; ++byte) {
      for (unsigned value = 0; value < 256; ++value) {
        unsigned hash = 0;
        for (unsigned i = 0; i < 8; ++i) {
          const std::size_t column = 8 * (byte - 1) + i;
          if ((value >> i & 1) != 0 && column < columns_.size()) hash ^= columns_[column];
        }
        by_byte_[byte][value] = static_cast<std::uint8_t>(hash);
      }
    }
  }

  float value(std::uint32_t s) const {
    const unsigned h =
        (s & 255) ^ by_byte_[1][s >> 8 & 255] ^ by_byte_[2][s >> 16 & 255] ^ by_byte_[3][s >> 24];
    const int sum =
        code_.tables[0][h & 15] + code_.tables[1][h >> 4] + code_.tables[2][s >> 4 & 15];
    return code_.unit * static_cast<float>(sum);
  }

  /// The least sum of squares that it finds.
  double run(const std::vector<float>& x) {
    double lost = 0;  // what has been taken off all paths
    paths_ = {{0, 0}};
    for (std::size_t i = x.size(); i-- > 0;) {
      next_.clear();
      for (const Path& path : paths_) {
        for (std::uint32_t symbol = 0; symbol < 1u << bits_; ++symbol) {
          const std::uint32_t state = (path.state << bits_ | symbol) & mask_;
          const float d = x[i] - value(state);
          next_.push_back({state, path.loss + d * d});
        }
      }
      if (next_.size() > survivors_) {
        const auto middle = next_.begin() + static_cast<std::ptrdiff_t>(survivors_);
        const auto nearer = [](const Path& a, const Path& b) { return a.loss < b.loss; };
        if (mask_ < kFewStates * survivors_) drop_equal_states();
        if (next_.size() > survivors_) {
          std::nth_element(next_.begin(), middle, next_.end(), nearer);
          next_.erase(middle, next_.end());
        }
      }
      float least = next_[0].loss;
      for (const Path& path : next_) least = std::min(least, path.loss);
      for (Path& path : next_) path.loss -= least;
      lost += least;
      std::swap(paths_, next_);
    }
    return lost;
  }

 private:
  /// Of paths with one state the best stays. With many more states than survivors they are rare.
  void drop_equal_states() {
    best_of_.resize(std::size_t{mask_} + 1);
    for (const Path& path : next_) best_of_[path.state] = INFINITY;
    for (const Path& path : next_) {
      best_of_[path.state] = std::min(best_of_[path.state], path.loss);
    }
    std::erase_if(next_, [&](const Path& path) {
      if (path.loss > best_of_[path.state]) return true;
      best_of_[path.state] = -1;  // the next one like it goes
      return false;
    });
  }

  const LinearHashCode& code_;
  unsigned bits_;
  std::uint32_t mask_;
  std::size_t survivors_;
  std::vector<std::uint8_t> columns_;  // of the hash, from bit 8 of the state on
  std::uint8_t by_byte_[4][256] = {};
  std::vector<Path> paths_, next_;
  std::vector<float> best_of_;  // by state
};

}  // namespace
}  // namespace squish::quant

int main(int argc, char** argv) {
  const auto number = [&](int i, std::uint64_t fallback) {
    return i < argc ? std::strtoull(argv[i], nullptr, 10) : fallback;
  };
  const auto bits = static_cast<unsigned>(number(1, 0)),
             width = static_cast<unsigned>(number(2, 0));
  const std::size_t survivors = number(3, 0), rows = number(4, 12288);
  if (bits < 1 || bits > 4 || width < 16 || width > 32 || survivors < 1 || rows < 1) {
    std::fprintf(
        stderr,
        "usage: trellis_beam BITS STATE_BITS SURVIVORS [ROWS [SEED]], 16 to 32 state bits\n");
    return 2;
  }
  const std::uint64_t seed = number(5, 1);
  const squish::CounterRng rng(seed, "beam stream");
  std::vector<float> x(rows);
  double signal = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    x[i] = static_cast<float>(rng.normal(i));
    signal += double{x[i]} * x[i];
  }
  squish::quant::Beam beam(bits, width, survivors, seed);
  const auto start = std::chrono::steady_clock::now();
  const double lost = beam.run(x);
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
  std::printf("%u bits, %u state bits, %zu survivors: %.3f dB, %.1f us a weight\n", bits, width,
              survivors, 10 * std::log10(signal / lost), took.count() / static_cast<double>(rows));
}
