#include "squish/evaluate/host.h"

#include <fmt/ranges.h>

#include <chrono>
#include <fstream>
#include <string_view>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/isa.h"
#include "squish/evaluate/bandwidth.isa.h"
#include "squish/linalg/gemm.h"

namespace squish::evaluate {

SQUISH_DECLARE_TABLES(BandwidthOps, kBandwidthOps);

const BandwidthOps& bandwidth_ops() {
  return choose(scalar::kBandwidthOps, avx2::kBandwidthOps, avx512::kBandwidthOps);
}

namespace {

/// The rest of the first line of `path` that starts with `key`, from its first word on; empty if
/// there is none.
std::string line_after(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t start = line.find_first_not_of(" \t:", key.size());
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

}  // namespace

Host describe_host(const ThreadPool& pool) {
  std::vector<std::string_view> available;
  for (const Isa isa : available_isas()) available.push_back(to_string(isa));
  return {.cpu = line_after("/proc/cpuinfo", "model name"),
          .isa = std::string(to_string(active_isa())),
          .isa_available = fmt::format("{}", fmt::join(available, " ")),
          .blas = linalg::blas_description(),
          .threads = pool.size()};
}

double read_bandwidth(ThreadPool& pool) {
  constexpr std::size_t kFloats = std::size_t{1} << 28, kChunk = std::size_t{1} << 20;
  constexpr int kPasses = 5;
  const AlignedVector<float> data(kFloats, 1.0f);
  std::vector<float> sums(kFloats / kChunk);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.run(sums.size(), [&](std::size_t chunk) {
      sums[chunk] = bandwidth_ops().sum(data.data() + chunk * kChunk, kChunk);
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, 4e-9 * static_cast<double>(kFloats) / seconds.count());
  }
  return best;
}

}  // namespace squish::evaluate
