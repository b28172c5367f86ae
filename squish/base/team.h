#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace squish {

/// The processes that work on one job, which all run the same code: ranks on one machine or
/// several, with a file system in common. This one alone, unless it was started as one of several
/// (apps/mpi_team.h).
class Team {
 public:
  Team() = default;
  virtual ~Team() = default;
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  /// One rank, 0, writes what is written once, and talks to the user.
  bool leads() const { return rank() == 0; }
  /// Of each rank: its share of the cores; 0: all that there are.
  virtual int threads() const { return 0; }

  /// What the leader has, on all ranks; none goes on before all are here.
  virtual std::string broadcast(std::string text) { return text; }

  /// On all ranks at once, as many bytes on each: a byte that is not zero on one becomes what it is
  /// there on all. (Where it is not zero on several, their bits are put together.)
  virtual void merge(std::span<std::byte> /*bytes*/) {}

  /// What came of an item, as bytes.
  using Work = std::function<std::string(std::size_t item)>;
  using Collect = std::function<void(std::size_t item, int rank, std::string result)>;
  /// Items 0 to count - 1, handed out in this order, each to the rank that asks first: it works,
  /// the leader collects (`rank`: who did it), one item at a time but in any order. On return all
  /// are collected (leader) or none is left (others). An exception on any rank ends it: the
  /// leader's is thrown there, another's reaches it as an Error that names the rank.
  virtual void share(std::size_t count, const Work& work, const Collect& collect) {
    for (std::size_t item = 0; item < count; ++item) collect(item, 0, work(item));
  }

  /// This rank cannot go on. Does not return where there are others: the leader, which has said
  /// why, ends them all with `code`; others tell the leader `sentence`.
  virtual void give_up(int /*code*/, const std::string& /*sentence*/) {}
};

}  // namespace squish
