#include "squish/base/memory.h"

#include <fstream>
#include <string>
#include <string_view>

namespace squish {
namespace {

/// A line of /proc/self/status that is given in KiB, in bytes.
std::size_t status_bytes(std::string_view key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return 1024 * std::stoull(line.substr(key.size()));
  }
  return 0;
}

}  // namespace

std::size_t anonymous_memory() { return status_bytes("RssAnon:"); }
std::size_t peak_rss_bytes() { return status_bytes("VmHWM:"); }
void reset_peak_rss() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace squish
