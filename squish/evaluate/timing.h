#pragma once
#include <functional>
#include <vector>

namespace squish::evaluate {

/// Several measurements of one quantity, in the unit that the caller says.
struct Timing {
  double median = 0, min = 0, max = 0;
  int runs = 0;
};

/// Of values in any order, at least one. The median of an even number is the mean of the middle
/// two.
Timing summarise(std::vector<double> values);

/// Milliseconds of one call, by the steady clock: at least 5 runs, or as many as fit into 2 s, at
/// least one. A quick body (below 0.33 s) is called once more before, untimed, so that tables that
/// are built on first use do not count; a very quick one is timed for 0.1 s.
Timing time_ms(const std::function<void()>& body);

}  // namespace squish::evaluate
