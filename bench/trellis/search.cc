// Searches for the codes of squish/quant/trellis_code.cc: random GF(2)-linear hashes of the state,
// each with tables trained by Lloyd iterations (states by the Viterbi algorithm, entries by least
// squares) on i.i.d. Gaussian streams, ranked on streams that no table was trained on. Prints what
// it finds, the best last, with the constants of a plain one.
//   trellis_search BITS STATE_BITS TABLES CANDIDATES [SEED [STREAMS [ROUNDS [FORM]]]]
// TABLES: 2, or 3 for one more on bits 4 to 7 of the state. FORM: plain, which is
// in use, or symmetric, pairs or wide, which were tried (docs/methods/trellis.md).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "squish/base/random.h"
#include "squish/quant/viterbi.h"
#include "squish/quant/viterbi.isa.h"

namespace squish::quant {
namespace {

constexpr std::size_t kRows = 256, kTestStreams = 200;

/// What a state looks up.
struct Form {
  std::string_view name;
  unsigned weights;     // that a state stands for, each with tables of its own
  std::size_t entries;  // of a table
  bool symmetric;       // entries e and 15 - e are each other's negative; half of them are kept
};
constexpr Form kForms[] = {{"plain", 1, 16, false},
                           {"symmetric", 1, 8, true},
                           {"pairs", 2, 16, false},
                           {"wide", 1, 64, false}};  // by bits 0 to 5 and 2 to 7 of a byte

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

/// An entry of a table, as it is or negated.
struct Entry {
  std::size_t index;
  double sign;
};

/// Which entry of table t of each weight a state uses.
Entry entry(const Form& form, const LinearHashCode& code, std::uint32_t state, std::size_t t) {
  const std::uint32_t byte = t == 2 ? state & 255 : static_cast<std::uint32_t>(code.hash(state));
  const bool upper = t > 0;
  if (form.entries == 64) return {upper ? byte >> 2 : byte & 63, 1};
  const std::uint32_t half = upper ? byte >> 4 : byte & 15;
  return form.symmetric && half > 7 ? Entry{15 - half, -1} : Entry{half, 1};
}

struct Trainer {
  unsigned bits;
  std::size_t tables;  // a weight
  const Form& form;
  std::vector<std::vector<double>> values;  // by weight of a step and table, real-valued

  /// Signal over noise of `count` streams, in dB; collects what the tables are fitted to.
  double encode(const TrellisCode& code, const LinearHashCode& hash, const CounterRng& rng,
                std::size_t count, bool fit) {
    const ViterbiCode prepared(code);
    ViterbiEncoder encoder(prepared);
    std::vector<float> x(kRows);
    std::vector<std::uint16_t> symbols(kRows / form.weights);
    std::vector<std::uint32_t> states;
    std::vector<float> targets;
    double signal = 0, noise = 0;
    for (std::size_t n = 0; n < count; ++n) {
      for (std::size_t i = 0; i < kRows; ++i) x[i] = static_cast<float>(rng.normal(n * kRows + i));
      encoder.encode(x, symbols);
      for (std::size_t i = 0; i < kRows; ++i) {
        const std::uint32_t state = trellis_state(code, symbols, i / form.weights);
        const double d = x[i] - trellis_value(code, symbols, i);
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
      for (std::size_t table = 0; table < values.size(); ++table) {
        const std::size_t v = table / tables, t = table % tables;
        std::vector<double> sum(form.entries), count(form.entries);
        for (std::size_t i = v; i < states.size(); i += form.weights) {
          double rest = targets[i];
          for (std::size_t o = 0; o < tables; ++o) {
            if (o != t) rest -= value(hash, states[i], v, o);
          }
          const Entry e = entry(form, hash, states[i], t);
          sum[e.index] += e.sign * rest;
          count[e.index] += 1;
        }
        for (std::size_t e = 0; e < form.entries; ++e) {
          if (count[e] > 0) values[table][e] = sum[e] / count[e];
        }
      }
    }
  }

  /// What table t of weight v of a step adds.
  double value(const LinearHashCode& hash, std::uint32_t state, std::size_t v,
               std::size_t t) const {
    const Entry e = entry(form, hash, state, t);
    return e.sign * values[v * tables + t][e.index];
  }

  /// To multiples of a unit, whose sums fill -127 .. 127 times it. Returns the unit.
  float round() {
    double most = 0;
    for (std::size_t first = 0; first < values.size(); first += tables) {
      double high = 0, low = 0;
      for (std::size_t t = first; t < first + tables; ++t) {
        std::vector<double>& table = values[t];
        // The mean of a table may move to another.
        const double mean = t == first || form.symmetric
                                ? 0
                                : std::accumulate(table.begin(), table.end(), 0.0) /
                                      static_cast<double>(form.entries);
        for (double& value : table) value -= mean;
        for (double& value : values[first]) value += mean;
      }
      for (std::size_t t = first; t < first + tables; ++t) {
        const auto [least, greatest] = std::minmax_element(values[t].begin(), values[t].end());
        high += form.symmetric ? std::max(*greatest, -*least) : *greatest;
        low += form.symmetric ? std::min(*least, -*greatest) : *least;
      }
      most = std::max({most, high, -low});
    }
    const auto unit = static_cast<float>(most / 126);
    for (std::vector<double>& table : values) {
      for (double& value : table)
        value = double{unit} * static_cast<double>(std::lround(value / unit));
    }
    return unit;
  }

  TrellisCode expand(const LinearHashCode& hash) const {
    TrellisCode code{bits, hash.state_bits, form.weights, {}};
    code.values.reserve(form.weights * code.states());
    for (std::size_t v = 0; v < form.weights; ++v) {
      for (std::uint32_t s = 0; s < code.states(); ++s) {
        double sum = 0;
        for (std::size_t t = 0; t < tables; ++t) sum += value(hash, s, v, t);
        code.values.push_back(static_cast<float>(sum));
      }
    }
    return code;
  }
};

Candidate make(unsigned bits, unsigned state_bits, std::size_t tables, std::uint64_t seed,
               std::size_t streams, int rounds, const Form& form) {
  Candidate candidate{seed, {}, 0};
  LinearHashCode& code = candidate.code;
  code.state_bits = state_bits;
  const CounterRng rng(seed, "trellis search");
  for (unsigned b = 0; b + 8 < state_bits; ++b) {
    code.columns[b] = static_cast<std::uint8_t>(rng.bits(b));
  }
  Trainer trainer{bits, tables, form, {}};
  // Quantiles in random order, most of the variance in the first table, whose entries one symbol
  // chooses among: from random entries Lloyd's iterations seldom find a good code above 2 bits.
  const double rest = 0.1 + 0.5 * rng.uniform(100);
  const std::size_t quantiles = form.symmetric ? 2 * form.entries : form.entries;
  for (std::size_t t = 0; t < tables * form.weights; ++t) {
    const double variance = t % tables == 0 ? 1 - rest : rest / static_cast<double>(tables - 1);
    std::vector<double> table(form.entries);
    for (std::size_t e = 0; e < form.entries; ++e) {
      const double p = (static_cast<double>(e) + 0.5) / static_cast<double>(quantiles);
      table[e] = std::sqrt(variance) * normal_quantile(p);
    }
    for (std::size_t e = form.entries; e-- > 1;) {
      std::swap(table[e], table[rng.below(1000 + form.entries * t + e, e + 1)]);
    }
    for (std::size_t e = 0; form.symmetric && e < form.entries; ++e) {
      if (rng.uniform(5000 + form.entries * t + e) < 0.5) table[e] = -table[e];
    }
    trainer.values.push_back(std::move(table));
  }
  for (int round = 0; round < rounds; ++round) {
    const CounterRng data(seed, "training " + std::to_string(round));
    trainer.encode(trainer.expand(code), code, data, streams, true);
  }
  code.unit = trainer.round();
  for (std::size_t t = 0; form.name == "plain" && t < tables; ++t) {
    for (std::size_t e = 0; e < form.entries; ++e) {
      code.tables[t][e] = static_cast<std::int8_t>(std::lround(trainer.values[t][e] / code.unit));
    }
  }
  candidate.snr =
      trainer.encode(trainer.expand(code), code, CounterRng(0, "ranking"), kTestStreams, false);
  return candidate;
}

void print(const Candidate& candidate, unsigned bits, std::size_t tables, const Form& form) {
  std::printf("%u bits, seed %llu: %.3f dB\n", bits,
              static_cast<unsigned long long>(candidate.seed), candidate.snr);
  if (form.name == "plain") {
    std::printf("  {%u, {", candidate.code.state_bits);
    for (const int c : candidate.code.columns) std::printf("%d, ", c);
    std::printf("}, {");
    for (std::size_t t = 0; t < tables; ++t) {
      std::printf("{");
      for (const int v : candidate.code.tables[t]) std::printf("%d, ", v);
      std::printf("}, ");
    }
    std::printf("}, %.9gf}\n", static_cast<double>(candidate.code.unit));
  }
  std::fflush(stdout);
}

}  // namespace
}  // namespace squish::quant

int main(int argc, char** argv) {
  using namespace squish::quant;
  if (argc < 5) {
    std::fprintf(stderr,
                 "usage: trellis_search BITS STATE_BITS TABLES CANDIDATES [SEED [STREAMS [ROUNDS "
                 "[FORM]]]]\n");
    return 2;
  }
  const auto number = [&](int i, long fallback) {
    return static_cast<std::uint64_t>(i < argc ? std::atol(argv[i]) : fallback);
  };
  const auto bits = static_cast<unsigned>(number(1, 2)),
             width = static_cast<unsigned>(number(2, 16));
  const std::size_t tables = number(3, 2), count = number(4, 1);
  const std::string_view name = argc > 8 ? argv[8] : "plain";
  const Form* const form = std::ranges::find(kForms, name, &Form::name);
  if (form == std::end(kForms)) {
    std::fprintf(stderr, "trellis_search: expected plain, symmetric, pairs or wide\n");
    return 2;
  }
  const unsigned step_bits = bits * form->weights;
  const ViterbiOps& ops = viterbi_ops();
  if (step_bits < 1 || step_bits > 4 || width < 8 || width > 16 || count == 0 || tables < 2 ||
      tables > 3 ||
      ops.lanes << (ops.steps[step_bits - 1] + 1) * step_bits > std::size_t{1} << width) {
    std::fprintf(
        stderr,
        "trellis_search: expected 1 to 4 bits a step, 2 or 3 tables, 8 to 16 state bits, and "
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
        const Candidate found = make(bits, width, tables, seed + i, number(6, 48),
                                     static_cast<int>(number(7, 12)), *form);
        const std::lock_guard lock(mutex);
        std::printf("seed %llu: %.3f dB\n", static_cast<unsigned long long>(found.seed), found.snr);
        std::fflush(stdout);
        if (found.snr > best.snr) {
          best = found;
          print(best, bits, tables, *form);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  print(best, bits, tables, *form);
}
