#include "squish/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "squish/base/text.h"

namespace squish {
namespace {

std::string duration(double seconds) {
  const auto s = std::lround(seconds);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

constexpr int kBarWidth = 24;

}  // namespace

Progress::Progress(std::string title, double total, bool quiet)
    : title_(std::move(title)),
      total_(total),
      quiet_(quiet),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      drawn_(start_) {
  if (!quiet_) draw(false);
}

Progress::~Progress() {
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  draw(true);
}

void Progress::advance(double units, const std::string& note) {
  const std::lock_guard lock(mutex_);
  done_ = std::min(total_, done_ + units);
  note_ = printable(note);
  if (quiet_) return;
  const auto now = std::chrono::steady_clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000);
  if (now - drawn_ < pause) return;
  drawn_ = now;
  draw(false);
}

void Progress::draw(bool last) {
  const double elapsed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double share = total_ > 0 ? done_ / total_ : 1;
  const std::string time =
      last ? "in " + duration(elapsed)
           : (share > 0 ? duration(elapsed * (1 - share) / share) + " left" : "");
  if (terminal_) {
    const int filled = static_cast<int>(share * kBarWidth);
    fmt::print(stderr, "\r\033[K{} [{:#<{}}{:.<{}}] {:3.0f}% {} {}{}", title_, "", filled, "",
               kBarWidth - filled, 100 * share, time, last ? "" : note_, last ? "\n" : "");
  } else {
    fmt::print(stderr, "{}: {:.0f}% {} {}\n", title_, 100 * share, time, last ? "" : note_);
  }
  std::fflush(stderr);
}

}  // namespace squish
