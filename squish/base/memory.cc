#include "squish/base/memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

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

std::size_t available_memory() {
  std::size_t bytes = line_of("/proc/meminfo", "MemAvailable:");
  // Containers and batch systems give less: the limits of the groups that this process is in.
  std::string group;
  for (std::ifstream groups("/proc/self/cgroup"); std::getline(groups, group);) {
    if (group.starts_with("0::")) break;
  }
  std::filesystem::path path = group.starts_with("0::/") ? group.substr(4) : "";
  for (;; path = path.parent_path()) {
    std::size_t limit = 0;
    if (std::ifstream("/sys/fs/cgroup" / path / "memory.max") >> limit) {
      bytes = std::min(bytes, limit);
    }
    if (path.empty()) return bytes;
  }
}
std::size_t anonymous_memory() { return line_of("/proc/self/status", "RssAnon:"); }
void return_freed_memory() {
#if defined(__GLIBC__)
  // Thresholds that are set no longer grow with what is freed, which they do up to 32 and 64 MiB.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
#endif
}

std::size_t peak_rss_bytes() { return line_of("/proc/self/status", "VmHWM:"); }
void reset_peak_rss() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace squish
