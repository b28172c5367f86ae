#include "squish/base/threads.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "squish/base/error.h"

namespace squish {
namespace {

TEST(ThreadPool, RunsEveryChunkOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::vector<int> count(101);
      pool.run(count.size(), [&](std::size_t chunk) { ++count[chunk]; });
      EXPECT_EQ(count, std::vector<int>(101, 1));
    }
  }
}

TEST(ThreadPool, RethrowsTheLowestFailureAndSurvivesIt) {
  ThreadPool pool(3);
  for (int repeat = 0; repeat < 20; ++repeat) {
    try {
      pool.run(30, [](std::size_t chunk) {
        if (chunk % 10 == 7) throw std::runtime_error(std::to_string(chunk));
      });
      FAIL();
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "7");
    }
  }
}

TEST(ThreadPool, NestedRunsWork) {
  ThreadPool pool(2);
  std::vector<int> count(64);
  pool.run(8, [&](std::size_t outer) {
    pool.run(8, [&](std::size_t inner) { ++count[outer * 8 + inner]; });
  });
  EXPECT_EQ(count, std::vector<int>(64, 1));
}

TEST(ThreadPool, ThreadsWithNothingToDoHelpInNestedRuns) {
  ThreadPool pool(2);
  std::atomic<int> arrived = 0;
  std::atomic<bool> missed = false;
  pool.run(2, [&](std::size_t outer) {
    if (outer == 1) return;
    pool.run(2, [&](std::size_t) {  // each waits for the other: one thread alone would not end
      ++arrived;
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (arrived < 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
      if (arrived < 2) missed = true;
    });
  });
  EXPECT_FALSE(missed);
}

TEST(ThreadPool, NestedRunsStayApartAndRethrow) {
  for (const int threads : {2, 5}) {
    ThreadPool pool(threads);
    for (int repeat = 0; repeat < 300; ++repeat) {
      std::vector<std::size_t> sums(6);
      std::vector<std::string> failures(6);
      pool.run(sums.size(), [&](std::size_t outer) {
        std::vector<std::atomic<std::size_t>> parts(2 + outer);
        pool.run(parts.size(), [&](std::size_t inner) {
          pool.run(3, [&](std::size_t innermost) { parts[inner] += innermost; });
        });
        for (const auto& part : parts) sums[outer] += part;
        try {
          pool.run(9, [&](std::size_t inner) {
            if (inner % 4 == 3) throw std::runtime_error(std::to_string(inner));
          });
        } catch (const std::runtime_error& error) {
          failures[outer] = error.what();
        }
      });
      EXPECT_EQ(sums, (std::vector<std::size_t>{6, 9, 12, 15, 18, 21}));
      EXPECT_EQ(failures, std::vector<std::string>(6, "3"));
    }
  }
}

// Some runs find the others awake, some asleep; each sees its own body alone.
TEST(ThreadPool, KeepsShortRunsApart) {
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    std::vector<std::uint32_t> sums(7);
    for (std::uint32_t run = 0; run < 20000; ++run) {
      const std::size_t chunks = 2 + run % 6;
      pool.run(chunks, [&sums, run](std::size_t chunk) { sums[chunk] += run; });
      if (run % 4000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
    std::vector<std::uint32_t> expected(7);
    for (std::uint32_t run = 0; run < 20000; ++run) {
      for (std::size_t chunk = 0; chunk < 2 + run % 6; ++chunk) expected[chunk] += run;
    }
    EXPECT_EQ(sums, expected);
  }
}

TEST(ThreadPool, TakesTurnsWhereSeveralThreadsCall) {
  ThreadPool pool(2);
  std::vector<int> counts(4);
  std::vector<std::thread> callers;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    callers.emplace_back([&, c] {
      for (int i = 0; i < 500; ++i) {
        std::atomic<int> sum = 0;
        pool.run(5, [&](std::size_t chunk) { sum += static_cast<int>(chunk); });
        counts[c] += sum;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(counts, std::vector<int>(4, 5000));
}

TEST(ThreadPool, SaysWhenTheSystemGivesNoThread) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_getattr_default_np(&attributes), 0);
  std::size_t usual = 0;
  pthread_attr_getstacksize(&attributes, &usual);
  pthread_attr_setstacksize(&attributes, std::size_t{1} << 46);  // more than can be mapped
  ASSERT_EQ(pthread_setattr_default_np(&attributes), 0);
  std::string message;
  try {
    ThreadPool pool(3);
  } catch (const Error& error) {
    message = error.what();
  }
  pthread_attr_setstacksize(&attributes, usual);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
  EXPECT_TRUE(message.starts_with("cannot start 3 threads: ")) << message;
}

TEST(ParallelFor, CutsDependOnTheGrainAlone) {
  ThreadPool pool(2);
  std::vector<std::size_t> size_of_chunk(4);
  parallel_for(pool, 10, 3,
               [&](std::size_t begin, std::size_t end) { size_of_chunk[begin / 3] = end - begin; });
  EXPECT_EQ(size_of_chunk, (std::vector<std::size_t>{3, 3, 3, 1}));
}

}  // namespace
}  // namespace squish
