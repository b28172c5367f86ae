#include "squish/base/row_runs.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/base/thread_team.h"

namespace squish {
namespace {

TEST(RowRuns, EachRowIsOfOneRankAndGoesToAll) {
  for (const std::size_t rows : {1u, 63u, 64u, 65u, 200u, 700u}) {
    for (const std::size_t multiple : {1u, 8u, 48u, 256u}) {
      for (const int ranks : {1, 2, 5}) {
        test::on_ranks(ranks, [&](Team& team) {
          ThreadPool pool(2);
          const RowRuns runs{multiple, &team};
          std::vector<int> done(3 * rows, 99);  // what is not its own does not count
          std::vector<int> times(rows);
          runs.for_own(rows, pool, [&](std::size_t begin, std::size_t end) {
            EXPECT_EQ(begin % multiple, 0u);
            for (std::size_t i = begin; i < end; ++i) {
              ++times[i];
              for (std::size_t k = 0; k < 3; ++k) done[3 * i + k] = static_cast<int>(i + k + 1);
            }
          });
          runs.merge(rows, std::span(done));
          runs.merge(rows, std::span(times));
          for (std::size_t i = 0; i < rows; ++i) {
            EXPECT_EQ(times[i], 1) << i;
            for (std::size_t k = 0; k < 3; ++k) {
              EXPECT_EQ(done[3 * i + k], static_cast<int>(i + k + 1));
            }
          }
        });
      }
    }
  }
}

TEST(RowRuns, LongMatricesAreOfSeveralRanks) {
  for (const std::size_t rows : {264u, 328u}) {  // of the model that tests of ranks share out
    for (const std::size_t multiple : {1u, 256u}) {
      test::on_ranks(2, [&](Team& team) {
        ThreadPool pool(1);
        std::size_t own = 0;
        RowRuns{multiple, &team}.for_own(
            rows, pool, [&](std::size_t begin, std::size_t end) { own += end - begin; });
        EXPECT_GT(own, 0u) << team.rank();
        EXPECT_LT(own, rows) << team.rank();
      });
    }
  }
}

TEST(RowRuns, MergeTakesWhatSeveralRowsHaveTogether) {
  constexpr std::size_t kRows = 203, kEach = 8, kUnits = 26;
  test::on_ranks(3, [&](Team& team) {
    ThreadPool pool(1);
    const RowRuns runs{16, &team};
    std::vector<std::uint8_t> units(2 * kUnits);
    runs.for_own(kRows, pool, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; i += kEach) {
        units[2 * (i / kEach)] = units[2 * (i / kEach) + 1] =
            static_cast<std::uint8_t>(i / kEach + 1);
      }
    });
    runs.merge(kRows, std::span(units), kEach);
    for (std::size_t u = 0; u < units.size(); ++u) EXPECT_EQ(units[u], u / 2 + 1);
  });
}

TEST(RowRuns, AloneAllRowsAreItsOwn) {
  ThreadPool pool(2);
  const RowRuns runs{1, nullptr};
  std::vector<int> rows(130);
  runs.for_own(rows.size(), pool, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) ++rows[i];
  });
  runs.merge(rows.size(), std::span(rows));
  EXPECT_EQ(rows, std::vector<int>(130, 1));
}

}  // namespace
}  // namespace squish
