#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "squish/base/random.h"
#include "squish/compress/plan.h"
#include "squish/compress/prepared_inputs.h"
#include "squish/io/calibration.h"

namespace squish::compress {
namespace {

using Clock = std::chrono::steady_clock;

// The program itself: libraries' buffers, the manifest, a tokenizer of few tokens.
constexpr double kProgramBytes = 16e6;
constexpr std::size_t kFewRows = 128, kMoreRows = 512;  // the difference is what rows cost
constexpr std::size_t kTrialCols = 512;                 // wider matrices are scaled from here

struct Trial {
  double prepare_s = 0;               // of one input
  double fixed_s = 0, s_per_row = 0;  // of encoding; fixed: codebooks
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Matrix gaussian(std::size_t rows, std::size_t cols) {
  const CounterRng rng(0, "estimate");
  Matrix weights(rows, cols);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights.data()[i] = static_cast<float>(0.02 * rng.normal(i));
  }
  return weights;
}

/// Inputs whose neighbours correlate.
quant::InputMoments correlated(std::size_t n) {
  quant::InputMoments moments{linalg::SymmetricMatrix(n), std::vector<double>(n)};
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      moments.second.at(i, j) = std::pow(0.9, static_cast<double>(i > j ? i - j : j - i));
    }
  }
  return moments;
}

Trial try_on(const quant::Spec& spec, std::size_t cols, bool calibrated, ThreadPool& pool) {
  const std::size_t n = std::min(cols, kTrialCols);
  const double wider = static_cast<double>(cols) / static_cast<double>(n);
  Trial trial;
  std::shared_ptr<const quant::Prepared> prepared;
  if (calibrated) {
    const quant::InputMoments moments = correlated(n);
    const Clock::time_point start = Clock::now();
    prepared = quant::prepare(moments, spec, pool, 0, "estimate");
    trial.prepare_s = seconds_since(start) * wider * wider * wider;
  }
  const auto seconds_of = [&](std::size_t rows) {
    const Matrix weights = gaussian(rows, n);
    const Clock::time_point start = Clock::now();
    quant::quantize(weights, spec, {.pool = pool, .key = "estimate", .prepared = prepared.get()});
    return seconds_since(start);
  };
  const double few = seconds_of(kFewRows), more = seconds_of(kMoreRows);
  trial.s_per_row = std::max(0.0, more - few) / (kMoreRows - kFewRows);
  trial.fixed_s = std::max(0.0, few - kFewRows * trial.s_per_row);
  trial.s_per_row *= wider * (calibrated ? wider : 1);  // feedback: cols products a weight
  return trial;
}

bool has_moments(const PlannedTensor& tensor, const quant::Spec& spec, bool calibrated) {
  return calibrated && tensor.linear && quant::find_method(spec.method()).prepare != nullptr;
}

/// What methods make of one input: doubles, n x n.
struct Preparing {
  std::map<PrepareKey, double> kept;
  double most = 0;  // that one needs while it is made, beyond what it keeps

  void add(const quant::Spec& spec, const quant::WorkingMemory& need) {
    double& own = kept[prepare_key(spec)];
    own = std::max(own, need.prepared);
    most = std::max(most, need.preparing - need.prepared);
  }
  double in_all() const {
    double sum = 0;
    for (const auto& [key, own] : kept) sum += own;
    return sum;
  }
};

}  // namespace

std::size_t peak_memory(const Plan& plan, bool calibrated, std::size_t at_once,
                        std::span<const quant::Spec> candidates) {
  double peak = 0;
  for (const TensorRun& run : runs_of_one_input(plan.compressed, false)) {
    std::vector<double> each;  // of the run's tensors, by each candidate
    Preparing input;
    const double cols = static_cast<double>(plan.compressed[run.begin].cols);
    for (std::size_t t = run.begin; t < run.end; ++t) {
      const PlannedTensor& tensor = plan.compressed[t];
      const bool is_chosen = tensor.by_rule || candidates.empty();
      for (const quant::Spec& spec : is_chosen ? std::span(&tensor.spec, 1) : candidates) {
        const quant::WorkingMemory& need = quant::find_method(spec.method()).memory;
        const bool is_calibrated = has_moments(tensor, spec, calibrated);
        each.push_back(sizeof(float) * (is_calibrated ? need.calibrated : need.weights) *
                       static_cast<double>(tensor.rows) * cols);
        if (is_calibrated) input.add(spec, need);
      }
    }
    std::ranges::sort(each, std::greater());
    each.resize(std::min(each.size(), at_once));
    const double square = sizeof(double) * cols * cols, kept = square * input.in_all();
    peak = std::max(
        {peak, kept + square * input.most, kept + std::accumulate(each.begin(), each.end(), 0.0)});
  }
  return static_cast<std::size_t>(kProgramBytes + peak);
}

Estimate estimate(const io::ModelFiles& files, const Plan& plan, bool calibrated,
                  ThreadPool& pool) {
  std::map<std::tuple<std::string, std::size_t, bool>, Trial> trials;  // spec, width, with moments
  std::set<std::pair<std::string, std::string>> prepared;              // input, spec
  std::set<std::string> learned;                                       // shared codebooks
  Estimate result;
  double bytes = 0;
  for (const PlannedTensor& tensor : plan.compressed) {
    const std::string spec = tensor.spec.full();
    const bool with_moments = has_moments(tensor, tensor.spec, calibrated);
    const double weights = static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
    bytes += tensor.nominal_bpw * weights / 8;
    auto [at, is_new] = trials.try_emplace({spec, tensor.cols, with_moments});
    if (is_new) at->second = try_on(tensor.spec, tensor.cols, with_moments, pool);
    result.seconds += at->second.s_per_row * static_cast<double>(tensor.rows);
    // Codebooks that are shared are learned once.
    if (tensor.shared.empty() || learned.insert(tensor.shared).second) {
      result.seconds += at->second.fixed_s;
    }
    if (with_moments && prepared.emplace(io::input_name(tensor.name), spec).second) {
      result.seconds += at->second.prepare_s;
    }
  }
  for (const std::string& name : plan.kept) {
    bytes += static_cast<double>(files.table.at(name).stored_bytes());
  }
  result.disk_bytes = static_cast<std::size_t>(bytes);
  return result;
}

}  // namespace squish::compress
