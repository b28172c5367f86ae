#include "squish/evaluate/timing.h"

#include <algorithm>
#include <cassert>
#include <chrono>

namespace squish::evaluate {
namespace {

constexpr std::size_t kMinRuns = 5, kMaxRuns = 1000;
constexpr double kBudgetMs = 2000, kQuickMs = 100;

double once(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

}  // namespace

Timing summarise(std::vector<double> values) {
  assert(!values.empty());
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return {.median = 0.5 * (values[(n - 1) / 2] + values[n / 2]),
          .min = values.front(),
          .max = values.back(),
          .runs = static_cast<int>(n)};
}

Timing time_ms(const std::function<void()>& body) {
  std::vector<double> runs;
  double total = once(body);
  if (total * static_cast<double>(kMinRuns + 1) > kBudgetMs) runs.push_back(total);
  while (runs.empty() || (total < kBudgetMs && runs.size() < kMinRuns) ||
         (total < kQuickMs && runs.size() < kMaxRuns)) {
    runs.push_back(once(body));
    total += runs.back();
  }
  return summarise(std::move(runs));
}

}  // namespace squish::evaluate
