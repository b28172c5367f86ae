#include "squish/compress/allocate.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <tuple>

#include "squish/base/error.h"

namespace squish::compress {
namespace {

/// From one vertex of a tensor's hull to the next.
struct Step {
  double gain;  // loss saved per bit
  std::size_t tensor, choice;
  std::uint64_t bits;
};

/// The indices of the choices on the lower convex hull, by rising bits and falling loss.
std::vector<std::size_t> hull(const std::vector<Choice>& choices) {
  std::vector<std::size_t> order(choices.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(choices[a].bits, choices[a].loss) < std::tie(choices[b].bits, choices[b].loss);
  });
  const auto slope = [&](std::size_t a, std::size_t b) {
    return (choices[a].loss - choices[b].loss) /
           static_cast<double>(choices[b].bits - choices[a].bits);
  };
  std::vector<std::size_t> vertices;
  for (const std::size_t next : order) {
    if (!vertices.empty() && choices[next].loss >= choices[vertices.back()].loss) continue;
    while (vertices.size() >= 2 &&
           slope(vertices.back(), next) >= slope(vertices[vertices.size() - 2], vertices.back())) {
      vertices.pop_back();
    }
    vertices.push_back(next);
  }
  return vertices;
}

/// Takes the change of one tensor that saves most loss within `left` bits, until none saves any.
void spend(std::span<const std::vector<Choice>> tensors, std::uint64_t left,
           std::vector<std::size_t>& chosen) {
  for (;;) {
    double best = 0;
    std::size_t tensor = 0, choice = 0;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const Choice& now = tensors[t][chosen[t]];
      for (std::size_t c = 0; c < tensors[t].size(); ++c) {
        const Choice& other = tensors[t][c];
        if (other.bits > now.bits + left || now.loss - other.loss <= best) continue;
        best = now.loss - other.loss;
        tensor = t;
        choice = c;
      }
    }
    if (best <= 0) return;
    left = left + tensors[tensor][chosen[tensor]].bits - tensors[tensor][choice].bits;
    chosen[tensor] = choice;
  }
}

}  // namespace

std::vector<std::size_t> allocate(std::span<const std::vector<Choice>> tensors,
                                  std::uint64_t budget) {
  std::vector<std::size_t> chosen;
  std::vector<Step> steps;
  std::uint64_t used = 0;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    assert(!tensors[t].empty());
    const std::vector<std::size_t> vertices = hull(tensors[t]);
    chosen.push_back(vertices.front());
    used += tensors[t][vertices.front()].bits;
    for (std::size_t v = 1; v < vertices.size(); ++v) {
      const Choice &from = tensors[t][vertices[v - 1]], &to = tensors[t][vertices[v]];
      const std::uint64_t bits = to.bits - from.bits;
      steps.push_back({(from.loss - to.loss) / static_cast<double>(bits), t, vertices[v], bits});
    }
  }
  if (used > budget) {
    fail("the smallest choices take {} bits, more than the {} that are allowed", used, budget);
  }
  // Within a tensor gains fall from step to step, so a stable order keeps them in sequence.
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.gain > b.gain; });
  for (const Step& step : steps) {
    if (step.bits > budget - used) break;
    used += step.bits;
    chosen[step.tensor] = step.choice;
  }
  spend(tensors, budget - used, chosen);
  return chosen;
}

}  // namespace squish::compress
