#pragma once
#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>

namespace squish {

/// Progress of one long job on standard error: a bar with the time left where that is a terminal,
/// a line at the start of each step and at most every ten seconds otherwise. Thread-safe; one at a
/// time.
class Progress {
 public:
  /// `total` units of work, for example tensors or windows. `quiet` prints nothing.
  Progress(std::string title, double total, bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `units` more are done; `note` says what is being worked on.
  void advance(double units, const std::string& note = "");

 private:
  void draw(bool last);

  std::mutex mutex_;
  std::string title_, note_;
  double total_, done_ = 0;
  bool quiet_, terminal_;
  std::chrono::steady_clock::time_point start_, drawn_;
};

}  // namespace squish
