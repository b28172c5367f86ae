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
thread_local const void* inside = nullptr;  // the pool of whose run this thread does a chunk

/// The exception of the lowest chunk that failed; under the mutex of whoever has it.
struct Failure {
  std::size_t chunk = std::numeric_limits<std::size_t>::max();
  std::exception_ptr exception;

  void add(std::size_t failed) {
    if (failed >= chunk) return;
    chunk = failed;
    exception = std::current_exception();
  }
};

/// A run that a body has called: that thread takes chunks, and so do those with nothing to do.
struct NestedRun {
  FunctionRef<void(std::size_t)> body;
  std::size_t count;
  std::atomic<std::size_t> next = 0;
  int helpers = 0;  // this and `failure` under State::nested_mutex
  Failure failure = {};
};
}  // namespace

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
  std::atomic<const FunctionRef<void(std::size_t)>*> body = nullptr;
  std::atomic<std::size_t> chunks = 0, done = 0;
  std::atomic<int> sleepers = 0;
  std::atomic<bool> caller_sleeps = false, stop = false;
  Failure failure;

  std::mutex nested_mutex;
  std::condition_variable left;    // by a helper
  std::vector<NestedRun*> nested;  // whose callers are at work
  std::atomic<int> open = 0;       // those of them with chunks that nobody has taken

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
      const void* const before = std::exchange(inside, this);
      try {
        (*current)(chunk);
      } catch (...) {
        const std::lock_guard lock(mutex);
        failure.add(chunk);
      }
      inside = before;
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
      return stop || (number(t) != seen && chunk_of(t) != kTaken) || open > 0;
    };
    while (!stop) {
      look_for(ready);
      if (help()) continue;
      if (!ready()) {
        std::unique_lock lock(mutex);
        ++sleepers;
        wake.wait(lock, ready);
        --sleepers;
      }
      const std::uint64_t t = ticket.load();
      if (number(t) == seen) continue;
      seen = number(t);
      work(t);
    }
  }

  void take_chunks(NestedRun& run) {
    for (std::size_t chunk = run.next++; chunk < run.count; chunk = run.next++) {
      if (chunk + 1 == run.count) --open;
      try {
        run.body(chunk);
      } catch (...) {
        const std::lock_guard lock(nested_mutex);
        run.failure.add(chunk);
      }
    }
  }

  /// Takes chunks of a nested run; false if there are none.
  bool help() {
    if (open <= 0) return false;
    NestedRun* run = nullptr;
    {
      const std::lock_guard lock(nested_mutex);
      const auto found = std::find_if(nested.begin(), nested.end(), [](const NestedRun* candidate) {
        return candidate->next < candidate->count;
      });
      if (found == nested.end()) return false;
      run = *found;
      ++run->helpers;
    }
    const void* const before = std::exchange(inside, this);
    take_chunks(*run);
    inside = before;
    const std::lock_guard lock(nested_mutex);
    --run->helpers;
    left.notify_all();
    return true;
  }

  void run_nested(std::size_t count, FunctionRef<void(std::size_t)> what) {
    NestedRun run{what, count};
    {
      const std::lock_guard lock(nested_mutex);
      nested.push_back(&run);
      ++open;
    }
    if (sleepers > 0 || caller_sleeps) {
      const std::lock_guard lock(mutex);
      wake.notify_all();
      finished.notify_all();
    }
    take_chunks(run);
    {
      std::unique_lock lock(nested_mutex);
      std::erase(nested, &run);
      left.wait(lock, [&] { return run.helpers == 0; });
    }
    if (run.failure.exception) std::rethrow_exception(run.failure.exception);
  }

  void run(std::size_t count, FunctionRef<void(std::size_t)> what) {
    body = &what;
    chunks = count;
    done = 0;
    failure = {};
    const std::uint64_t t = (number(ticket.load()) + 1) << 32;
    ticket = t;
    if (sleepers > 0) {
      const std::lock_guard lock(mutex);
      wake.notify_all();
    }
    work(t);
    const auto all_done = [&] { return done.load() == count; };
    const auto ready = [&] { return all_done() || open > 0; };
    while (!all_done()) {
      look_for(ready);
      if (all_done() || help()) continue;
      std::unique_lock lock(mutex);
      caller_sleeps = true;
      finished.wait(lock, ready);
      caller_sleeps = false;
    }
    ticket = t | kTaken;  // before `body` and `chunks` change
    if (failure.exception) std::rethrow_exception(std::exchange(failure, {}).exception);
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

void ThreadPool::run(std::size_t chunks, FunctionRef<void(std::size_t)> body) {
  const bool elsewhere = inside != nullptr && inside != state_.get();  // each pool has its threads
  if (elsewhere || chunks <= 1 || state_->workers.empty()) {
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) body(chunk);
    return;
  }
  if (inside != nullptr) return state_->run_nested(chunks, body);
  const std::lock_guard caller(state_->one_caller);
  state_->run(chunks, body);
}

void parallel_for(ThreadPool& pool, std::size_t n, std::size_t grain,
                  FunctionRef<void(std::size_t, std::size_t)> body) {
  const std::size_t chunks = (n + grain - 1) / grain;
  pool.run(chunks, [&](std::size_t chunk) {
    const std::size_t begin = chunk * grain;
    body(begin, std::min(n, begin + grain));
  });
}

}  // namespace squish
