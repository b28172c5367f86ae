#include "squish/base/memory.h"

#include <fstream>
#include <string>
#include <string_view>

namespace squish {
namespace {

/// A line of the file that is given in KiB, in bytes.
std::size_t line_of(const char* file, std::string_view key) {
  std::ifstream status(file);
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return 1024 * std::stoull(line.substr(key.size()));
  }
  return 0;
}

}  // namespace

std::size_t available_memory() { return line_of("/proc/meminfo", "MemAvailable:"); }
std::size_t anonymous_memory() { return line_of("/proc/self/status", "RssAnon:"); }
std::size_t peak_rss_bytes() { return line_of("/proc/self/status", "VmHWM:"); }
void reset_peak_rss() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace squish
