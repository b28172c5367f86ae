#include "squish/evaluate/timing.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace squish::evaluate {
namespace {

TEST(Timing, SummarisesOddAndEvenNumbersOfRuns) {
  const Timing odd = summarise({3, 1, 20});
  EXPECT_EQ(odd.median, 3);
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.max, 20);
  EXPECT_EQ(odd.runs, 3);
  EXPECT_EQ(summarise({4, 1, 3, 100}).median, 3.5);
}

TEST(Timing, AQuickBodyIsWarmedUpAndRunsAtLeastFiveTimes) {
  int calls = 0;
  const Timing timing = time_ms([&] {
    ++calls;
    std::this_thread::sleep_for(std::chrono::milliseconds(calls == 1 ? 200 : 30));
  });
  EXPECT_EQ(timing.runs, 5);
  EXPECT_EQ(calls, 6);
  EXPECT_GE(timing.min, 30);
  EXPECT_LT(timing.median, 150);
}

TEST(Timing, ASlowBodyRunsAsOftenAsFitsIntoTwoSeconds) {
  int calls = 0;
  const Timing timing = time_ms([&] {
    ++calls;
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
  });
  EXPECT_EQ(timing.runs, 3);
  EXPECT_EQ(calls, 3);
}

TEST(Timing, AVerySlowBodyRunsOnce) {
  int calls = 0;
  time_ms([&] {
    ++calls;
    std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  });
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace squish::evaluate
