// Searches for the codes of squish/quant/trellis_code.cc: random GF(2)-linear hashes of the state,
// each with tables trained by Lloyd iterations (states by the Viterbi algorithm, entries by least
// squares) on i.i.d. Gaussian streams, ranked on streams that no table was trained on. Prints what
// it finds, the best last, with the constants.
//   trellis_search BITS STATE_BITS TABLES CANDIDATES [SEED [STREAMS [ROUNDS]]]
// TABLES: 2, or 3 for one more on bits 4 to 7 of the state.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "squish/base/random.h"
#include "squish/quant/viterbi.h"
#include "squish/quant/viterbi.isa.h"

namespace squish::quant {
namespace {

constexpr std::size_t kRows = 256, kTestStreams = 200;
constexpr int kEntries = 16;

double normal_quantile(double p) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

struct Candidate {
  std::uint64_t seed;
  LinearHashCode code;
  double snr = 0;
};

/// Which entry of table t a state uses.
int entry(const LinearHashCode& code, std::uint32_t state, std::size_t t) {
  return t == 2 ? static_cast<int>(state >> 4 & 15) : code.hash(state) >> (4 * t) & 15;
}

struct Trainer {
  unsigned bits;
  std::size_t tables;
  std::vector<std::vector<double>> values;  // by table, real-valued

  /// Signal over noise of `count` streams, in dB; collects what the tables are fitted to.
  double encode(const TrellisCode& code, const LinearHashCode& hash, const CounterRng& rng,
                std::size_t count, bool fit) {
    const ViterbiCode prepared(code);
    ViterbiEncoder encoder(prepared);
    std::vector<float> x(kRows);
    std::vector<std::uint16_t> symbols(kRows);
    std::vector<std::uint32_t> states;
    std::vector<float> targets;
    double signal = 0, noise = 0;
    for (std::size_t n = 0; n < count; ++n) {
      for (std::size_t i = 0; i < kRows; ++i) x[i] = static_cast<float>(rng.normal(n * kRows + i));
      encoder.encode(x, symbols);
      for (std::size_t i = 0; i < kRows; ++i) {
        const std::uint32_t state = trellis_state(code, symbols, i);
        const double d = x[i] - code.values[state];
        signal += double{x[i]} * x[i];
        noise += d * d;
        if (fit) states.push_back(state), targets.push_back(x[i]);
      }
    }
    if (fit) refit(hash, states, targets);
    return 10 * std::log10(signal / noise);
  }

  void refit(const LinearHashCode& hash, const std::vector<std::uint32_t>& states,
             const std::vector<float>& targets) {
    for (int pass = 0; pass < 8; ++pass) {
      for (std::size_t t = 0; t < tables; ++t) {
        std::vector<double> sum(kEntries), count(kEntries);
        for (std::size_t i = 0; i < states.size(); ++i) {
          double rest = targets[i];
          for (std::size_t o = 0; o < tables; ++o) {
            if (o != t) rest -= values[o][entry(hash, states[i], o)];
          }
          const int e = entry(hash, states[i], t);
          sum[e] += rest;
          count[e] += 1;
        }
        for (int e = 0; e < kEntries; ++e) {
          if (count[e] > 0) values[t][e] = sum[e] / count[e];
        }
      }
    }
  }

  /// The code in integers whose sums fill -127 .. 127.
  void round(LinearHashCode& code) {
    for (std::size_t t = 1; t < tables; ++t) {  // the mean of a table may move to another
      const double mean = std::accumulate(values[t].begin(), values[t].end(), 0.0) / kEntries;
      for (double& v : values[t]) v -= mean;
      for (double& v : values[0]) v += mean;
    }
    double high = 0, low = 0;
    for (std::size_t t = 0; t < tables; ++t) {
      high += *std::max_element(values[t].begin(), values[t].end());
      low += *std::min_element(values[t].begin(), values[t].end());
    }
    code.unit = static_cast<float>(std::max(high, -low) / 126);
    for (std::size_t t = 0; t < tables; ++t) {
      for (int e = 0; e < kEntries; ++e) {
        code.tables[t][e] = static_cast<std::int8_t>(std::lround(values[t][e] / code.unit));
      }
    }
  }

  TrellisCode real_code(const LinearHashCode& hash) {
    TrellisCode code{bits, hash.state_bits, 1, {}};
    code.values.resize(code.states());
    for (std::uint32_t s = 0; s < code.states(); ++s) {
      for (std::size_t t = 0; t < tables; ++t) {
        code.values[s] += static_cast<float>(values[t][entry(hash, s, t)]);
      }
    }
    return code;
  }
};

Candidate make(unsigned bits, unsigned state_bits, std::size_t tables, std::uint64_t seed,
               std::size_t streams, int rounds) {
  Candidate candidate{seed, {}, 0};
  LinearHashCode& code = candidate.code;
  code.state_bits = state_bits;
  const CounterRng rng(seed, "trellis search");
  for (unsigned b = 0; b + 8 < state_bits; ++b) {
    code.columns[b] = static_cast<std::uint8_t>(rng.bits(b));
  }
  Trainer trainer{bits, tables, {}};
  // Quantiles in random order, most of the variance in the first table, whose entries one symbol
  // chooses among: from random entries Lloyd's iterations seldom find a good code above 2 bits.
  const double rest = 0.1 + 0.5 * rng.uniform(100);
  for (std::size_t t = 0; t < tables; ++t) {
    const double variance = t == 0 ? 1 - rest : rest / static_cast<double>(tables - 1);
    std::vector<double> table(kEntries);
    for (int e = 0; e < kEntries; ++e) {
      table[e] = std::sqrt(variance) * normal_quantile((e + 0.5) / kEntries);
    }
    for (std::size_t e = kEntries; e-- > 1;) {
      std::swap(table[e], table[rng.below(1000 + 16 * t + e, e + 1)]);
    }
    trainer.values.push_back(std::move(table));
  }
  for (int round = 0; round < rounds; ++round) {
    const CounterRng data(seed, "training " + std::to_string(round));
    trainer.encode(trainer.real_code(code), code, data, streams, true);
  }
  trainer.round(code);
  candidate.snr =
      trainer.encode(code.expand(bits), code, CounterRng(0, "ranking"), kTestStreams, false);
  return candidate;
}

void print(const Candidate& candidate, unsigned bits, std::size_t tables) {
  std::printf("%u bits, seed %llu: %.3f dB\n  {%u, {", bits,
              static_cast<unsigned long long>(candidate.seed), candidate.snr,
              candidate.code.state_bits);
  for (const int c : candidate.code.columns) std::printf("%d, ", c);
  std::printf("}, {");
  for (std::size_t t = 0; t < tables; ++t) {
    std::printf("{");
    for (const int v : candidate.code.tables[t]) std::printf("%d, ", v);
    std::printf("}, ");
  }
  std::printf("}, %.9gf}\n", static_cast<double>(candidate.code.unit));
  std::fflush(stdout);
}

}  // namespace
}  // namespace squish::quant

int main(int argc, char** argv) {
  using namespace squish::quant;
  if (argc < 5) {
    std::fprintf(
        stderr,
        "usage: trellis_search BITS STATE_BITS TABLES CANDIDATES [SEED [STREAMS [ROUNDS]]]\n");
    return 2;
  }
  const auto number = [&](int i, long fallback) {
    return static_cast<std::uint64_t>(i < argc ? std::atol(argv[i]) : fallback);
  };
  const auto bits = static_cast<unsigned>(number(1, 2)),
             width = static_cast<unsigned>(number(2, 16));
  const std::size_t tables = number(3, 2), count = number(4, 1);
  const ViterbiOps& ops = viterbi_ops();
  if (bits < 1 || bits > 4 || width < 8 || width > 16 || count == 0 || tables < 2 || tables > 3 ||
      ops.lanes << (ops.steps[bits - 1] + 1) * bits > std::size_t{1} << width) {
    std::fprintf(stderr,
                 "trellis_search: expected 1 to 4 bits, 2 or 3 tables, 8 to 16 state bits, and "
                 "no fewer than a step of the encoder takes: fewer with SQUISH_ISA=scalar\n");
    return 2;
  }
  const std::uint64_t seed = number(5, 1);
  std::atomic<std::uint64_t> next = 0;
  std::mutex mutex;
  Candidate best;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t i = next++; i < count; i = next++) {
        const Candidate found =
            make(bits, width, tables, seed + i, number(6, 48), static_cast<int>(number(7, 12)));
        const std::lock_guard lock(mutex);
        std::printf("seed %llu: %.3f dB\n", static_cast<unsigned long long>(found.seed), found.snr);
        std::fflush(stdout);
        if (found.snr > best.snr) {
          best = found;
          print(best, bits, tables);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  print(best, bits, tables);
}
