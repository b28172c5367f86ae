#include "squish/evaluate/bandwidth.isa.h"

namespace squish::evaluate::SQUISH_ISA_NAMESPACE {
namespace {

// Several sums, so that the additions' latency does not hide the memory.
float sum(const float* x, std::size_t n) {
  constexpr std::size_t kLanes = 64;
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane];
  }
  float total = 0;
  for (; i < n; ++i) total += x[i];
  for (const float lane : lanes) total += lane;
  return total;
}

}  // namespace

extern const BandwidthOps kBandwidthOps;
const BandwidthOps kBandwidthOps = {sum};

}  // namespace squish::evaluate::SQUISH_ISA_NAMESPACE
