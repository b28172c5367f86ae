#pragma once
#include <chrono>
#include <mutex>

namespace squish::compress {

/// Shares out the time that passes among those at work, so that the sum of what each was given is
/// no more than that.
class SharedClock {
 public:
  /// Seconds that each of those at work since the beginning would have been given.
  double now(int workers_more) {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> passed = now - then_;
    if (workers_ > 0) seconds_ += passed.count() / workers_;
    then_ = now;
    workers_ += workers_more;
    return seconds_;
  }

 private:
  std::mutex mutex_;
  std::chrono::steady_clock::time_point then_ = std::chrono::steady_clock::now();
  double seconds_ = 0;
  int workers_ = 0;
};

/// One of those, as long as it lives.
class Worker {
 public:
  explicit Worker(SharedClock& clock) : clock_(clock), start_(clock.now(1)) {}
  ~Worker() { clock_.now(-1); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Of its own.
  double seconds() const { return clock_.now(0) - start_; }

 private:
  SharedClock& clock_;
  double start_;
};

}  // namespace squish::compress
