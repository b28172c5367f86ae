// Finds kGains of squish/quant/trellis_layout.cc: the scales of the two codes whose sum has 5 to 8
// bits, by the error on i.i.d. Gaussian weights.
//   trellis_gains BITS [CODE [STREAMS [SEED]]]
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "squish/base/random.h"
#include "squish/base/threads.h"
#include "squish/quant/viterbi.h"

namespace squish::quant {
namespace {

constexpr std::size_t kRows = 384;

using Streams = std::vector<std::vector<float>>;

/// What the code, at this gain, leaves of each stream.
Streams rest_of(const Streams& streams, ViterbiPool& encoders, double gain, ThreadPool& pool) {
  Streams rest = streams;
  pool.run(streams.size(), [&](std::size_t n) {
    std::vector<float> x = streams[n];
    for (float& value : x) value = static_cast<float>(value / gain);
    std::vector<std::uint16_t> symbols(kRows);
    encoders.encode(x, symbols);
    for (std::size_t i = 0; i < kRows; ++i) {
      rest[n][i] -= static_cast<float>(gain * trellis_value(encoders.code(), symbols, i));
    }
  });
  return rest;
}

double mean_square(const Streams& streams) {
  double sum = 0;
  for (const auto& stream : streams) {
    for (const float x : stream) sum += double{x} * x;
  }
  return sum / static_cast<double>(streams.size() * kRows);
}

void search(const std::string& code, unsigned bits, std::size_t count, std::uint64_t seed) {
  ThreadPool pool;
  const CounterRng rng(seed, "gains");
  Streams streams(count, std::vector<float>(kRows));
  for (std::size_t n = 0; n < count; ++n) {
    for (std::size_t i = 0; i < kRows; ++i) {
      streams[n][i] = static_cast<float>(rng.normal(n * kRows + i));
    }
  }
  const double signal = mean_square(streams);
  ViterbiPool wide(trellis_code(code, (bits + 1) / 2)), narrow(trellis_code(code, bits / 2));
  double best = 0;
  for (int w = 100; w <= 140; w += 2) {
    const Streams rest = rest_of(streams, wide, w / 100.0, pool);
    const double deviation = std::sqrt(mean_square(rest));
    double best_here = 0, best_narrow = 0;
    for (int part = 85; part <= 150; part += 5) {
      const double gain = deviation * part / 100;
      const double snr = 10 * std::log10(signal / mean_square(rest_of(rest, narrow, gain, pool)));
      if (snr > best_here) best_here = snr, best_narrow = gain;
    }
    std::printf("%u bits, %.2f and %.4f: %.3f dB%s\n", bits, w / 100.0, best_narrow, best_here,
                best_here > best ? ", the best so far" : "");
    std::fflush(stdout);
    best = std::max(best, best_here);
  }
}

}  // namespace
}  // namespace squish::quant

int main(int argc, char** argv) {
  const int bits = argc > 1 ? std::atoi(argv[1]) : 0;
  const std::string code = argc > 2 ? argv[2] : "fast";
  if (bits < 5 || bits > 8 || (code != "fast" && code != "hash")) {
    std::fprintf(stderr, "usage: trellis_gains BITS [fast|hash [STREAMS [SEED]]], 5 to 8 bits\n");
    return 2;
  }
  squish::quant::search(code, static_cast<unsigned>(bits),
                        argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 683,
                        argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 1);
}
