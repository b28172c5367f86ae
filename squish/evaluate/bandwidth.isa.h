#pragma once
#include <cstddef>

/// The loop of read_bandwidth(), one per instruction set (squish/base/isa.h).
namespace squish::evaluate {

struct BandwidthOps {
  float (*sum)(const float* x, std::size_t n);
};

const BandwidthOps& bandwidth_ops();

}  // namespace squish::evaluate
