#pragma once
#include <cstddef>
#include <memory>

#include "squish/base/function_ref.h"

namespace squish {

/// A fixed set of threads that share out chunks of work. Results never depend on the number of
/// threads as long as a body writes only what belongs to its chunk: which chunks exist is the
/// caller's choice and not the pool's.
class ThreadPool {
 public:
  /// `threads` in all, the calling one included; 0 means one per available core.
  /// Error if the system does not give that many.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// Calls body(chunk) once for each chunk in [0, chunks), in any order, and returns when all are
  /// done. The exception of the lowest failing chunk is rethrown. Called from inside a body it
  /// runs chunks on the calling thread and on those that have nothing to do.
  void run(std::size_t chunks, FunctionRef<void(std::size_t chunk)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// body(begin, end) over [0, n) in runs of `grain` (the last one shorter); the cuts depend on n and
/// grain alone.
void parallel_for(ThreadPool& pool, std::size_t n, std::size_t grain,
                  FunctionRef<void(std::size_t begin, std::size_t end)> body);

}  // namespace squish
