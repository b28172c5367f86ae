#include "squish/base/threads.h"

#include <algorithm>
#include <condition_variable>
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

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake, finished;
  std::vector<std::thread> workers;
  std::mutex one_caller;  // a second thread that calls run() waits for the first to be done

  const std::function<void(std::size_t)>* body = nullptr;
  std::size_t chunks = 0, next = 0, done = 0;
  std::size_t failed_chunk = std::numeric_limits<std::size_t>::max();
  std::exception_ptr failure;
  bool stop = false;

  ~State() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  // Takes chunks until none is left. Chunks are coarse, so one lock each costs nothing.
  void work(std::unique_lock<std::mutex>& lock) {
    while (body != nullptr && next < chunks) {
      const std::size_t chunk = next++;
      const auto* current = body;
      lock.unlock();
      std::exception_ptr error;
      inside_body = true;
      try {
        (*current)(chunk);
      } catch (...) {
        error = std::current_exception();
      }
      inside_body = false;
      lock.lock();
      if (error && chunk < failed_chunk) {
        failed_chunk = chunk;
        failure = error;
      }
      if (++done == chunks) finished.notify_all();
    }
  }

  void loop() {
    std::unique_lock lock(mutex);
    while (!stop) {
      work(lock);
      wake.wait(lock, [&] { return stop || (body != nullptr && next < chunks); });
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
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
  std::unique_lock lock(state_->mutex);
  state_->body = &body;
  state_->chunks = chunks;
  state_->next = state_->done = 0;
  state_->failed_chunk = std::numeric_limits<std::size_t>::max();
  state_->failure = nullptr;
  state_->wake.notify_all();
  state_->work(lock);
  state_->finished.wait(lock, [&] { return state_->done == state_->chunks; });
  state_->body = nullptr;
  if (state_->failure) std::rethrow_exception(std::exchange(state_->failure, nullptr));
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
