#pragma once
#include <barrier>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "squish/base/team.h"

namespace squish::test {

/// What the ranks of one job have in common.
struct Meeting {
  explicit Meeting(int ranks) : all(ranks) {}
  std::barrier<> all;
  std::mutex mutex;
  std::vector<std::byte> bytes;
};

/// A rank that is a thread; takes part in merge() alone.
class ThreadTeam : public Team {
 public:
  ThreadTeam(int rank, int size, Meeting& meeting) : rank_(rank), size_(size), meeting_(meeting) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void merge(std::span<std::byte> bytes) override {
    {
      const std::lock_guard lock(meeting_.mutex);
      meeting_.bytes.resize(bytes.size());
      for (std::size_t i = 0; i < bytes.size(); ++i) meeting_.bytes[i] |= bytes[i];
    }
    meeting_.all.arrive_and_wait();
    std::copy(meeting_.bytes.begin(), meeting_.bytes.end(), bytes.begin());
    meeting_.all.arrive_and_wait();
    if (rank_ == 0) meeting_.bytes.clear();
    meeting_.all.arrive_and_wait();
  }

 private:
  int rank_, size_;
  Meeting& meeting_;
};

/// body(team) on `ranks` threads.
inline void on_ranks(int ranks, const std::function<void(Team&)>& body) {
  Meeting meeting(ranks);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([=, &body, &meeting] {
      ThreadTeam team(rank, ranks, meeting);
      body(team);
    });
  }
}

}  // namespace squish::test
