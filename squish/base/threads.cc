#include "squish/base/threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "squish/base/error.h"

namespace squish {
namespace {
thread_local bool inside_body = false;
}

// A run is published as a ticket: its number in the high half, the next chunk in the low half. A
// chunk is taken by compare and swap, so a thread that comes late takes none of another run's. The
// products of one token are runs of some ten microseconds: between them threads look for the next
// for a while before they go to sleep.
struct ThreadPool::State {
  static constexpr std::uint64_t kTaken = 0xffffffff;  // no chunk is left, whatever the number
  static constexpr int kLooks = 2000;                  // before going to sleep: 20 to 80 us

  std::mutex mutex;  // of going to sleep, and of `failure`
  std::condition_variable wake, finished;
  std::vector<std::thread> workers;
  std::mutex one_caller;  // a second thread that calls run() waits for the first to be done
  bool crowded = false;   // more threads than cores: looking would keep others from working

  std::atomic<std::uint64_t> ticket = kTaken;
  std::atomic<const std::function<void(std::size_t)>*> body = nullptr;
  std::atomic<std::size_t> chunks = 0, done = 0;
  std::atomic<int> sleepers = 0;
  std::atomic<bool> caller_sleeps = false, stop = false;
  std::size_t failed_chunk = std::numeric_limits<std::size_t>::max();
  std::exception_ptr failure;

  ~State() {
    stop = true;
    {
      const std::lock_guard lock(mutex);
      wake.notify_all();
    }
    for (std::thread& worker : workers) worker.join();
  }

  static std::uint64_t number(std::uint64_t t) { return t >> 32; }
  static std::uint64_t chunk_of(std::uint64_t t) { return t & kTaken; }

  template <class Ready>
  void look_for(const Ready& ready) const {
    for (int i = 0; i < (crowded ? 0 : kLooks) && !ready(); ++i) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  }

  /// Takes chunks of the run `t` until none is left.
  void work(std::uint64_t t) {
    const std::uint64_t run = number(t);
    const auto* const current = body.load();
    const std::size_t count = chunks.load();
    t = ticket.load();
    while (number(t) == run && chunk_of(t) < count) {
      if (!ticket.compare_exchange_weak(t, t + 1)) continue;
      const std::size_t chunk = chunk_of(t);
      inside_body = true;
      try {
        (*current)(chunk);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (chunk < failed_chunk) {
          failed_chunk = chunk;
          failure = std::current_exception();
        }
      }
      inside_body = false;
      if (done.fetch_add(1) + 1 == count && caller_sleeps) {
        const std::lock_guard lock(mutex);
        finished.notify_all();
      }
      t = ticket.load();
    }
  }

  void loop() {
    std::uint64_t seen = 0;
    const auto ready = [&] {
      const std::uint64_t t = ticket.load();
      return stop || (number(t) != seen && chunk_of(t) != kTaken);
    };
    while (!stop) {
      look_for(ready);
      if (!ready()) {
        std::unique_lock lock(mutex);
        ++sleepers;
        wake.wait(lock, ready);
        --sleepers;
      }
      const std::uint64_t t = ticket.load();
      seen = number(t);
      work(t);
    }
  }

  void run(std::size_t count, const std::function<void(std::size_t)>& what) {
    body = &what;
    chunks = count;
    done = 0;
    failed_chunk = std::numeric_limits<std::size_t>::max();
    failure = nullptr;
    const std::uint64_t t = (number(ticket.load()) + 1) << 32;
    ticket = t;
    if (sleepers > 0) {
      const std::lock_guard lock(mutex);
      wake.notify_all();
    }
    work(t);
    const auto all_done = [&] { return done.load() == count; };
    look_for(all_done);
    if (!all_done()) {
      std::unique_lock lock(mutex);
      caller_sleeps = true;
      finished.wait(lock, all_done);
      caller_sleeps = false;
    }
    ticket = t | kTaken;  // before `body` and `chunks` change
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (threads <= 0) threads = cores;
  state_->crowded = threads > cores;
  try {
    for (int i = 1; i < threads; ++i) {
      state_->workers.emplace_back([state = state_.get()] { state->loop(); });
    }
  } catch (const std::system_error& error) {  // ~State() ends those that did start
    fail("cannot start {} threads: {}", threads, error.code().message());
  }
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(std::size_t chunks, const std::function<void(std::size_t)>& body) {
  if (inside_body || chunks <= 1 || state_->workers.empty()) {
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) body(chunk);
    return;
  }
  const std::lock_guard caller(state_->one_caller);
  state_->run(chunks, body);
}

void parallel_for(ThreadPool& pool, std::size_t n, std::size_t grain,
                  const std::function<void(std::size_t, std::size_t)>& body) {
  const std::size_t chunks = (n + grain - 1) / grain;
  pool.run(chunks, [&](std::size_t chunk) {
    const std::size_t begin = chunk * grain;
    body(begin, std::min(n, begin + grain));
  });
}

}  // namespace squish
