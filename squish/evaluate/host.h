#pragma once
#include <string>

#include "squish/base/threads.h"

namespace squish::evaluate {

/// What a measurement ran on.
struct Host {
  std::string cpu;            ///< model name, as the operating system tells it
  std::string isa;            ///< the instruction set in use
  std::string isa_available;  ///< all that this CPU has of ours, "scalar avx2"
  std::string blas;           ///< the library's own description
  int threads = 0;
  double read_bandwidth_gbs = 0;  ///< 1e9 bytes a second; read_bandwidth()
};

/// Everything but the bandwidth, which takes a second to measure.
Host describe_host(const ThreadPool& pool);

/// Read bandwidth of memory in 1e9 bytes per second: the best of several passes of a vector sum
/// over 1 GiB, by all threads of the pool, from pages like those that weights lie in.
double read_bandwidth(ThreadPool& pool);

}  // namespace squish::evaluate
