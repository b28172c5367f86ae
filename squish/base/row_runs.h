#pragma once
#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <type_traits>

#include "squish/base/error.h"
#include "squish/base/team.h"
#include "squish/base/threads.h"

namespace squish {

/// A matrix's rows in runs of about kLength, shared out over a pool and, where a team works on one
/// matrix, among its ranks: run r is of rank r mod their number. Where the cuts are depends on the
/// rows and `multiple` alone.
struct RowRuns {
  static constexpr std::size_t kLength = 64;

  std::size_t multiple = 1;  ///< runs begin at multiples of this
  Team* team = nullptr;      ///< whose ranks all do the same, but for their runs; null: no other

  std::size_t length() const { return (kLength + multiple - 1) / multiple * multiple; }

  /// body(begin, end) for each of this rank's runs.
  void for_own(std::size_t rows, ThreadPool& pool,
               const std::function<void(std::size_t begin, std::size_t end)>& body) const {
    const std::size_t count = (rows + length() - 1) / length(), first = rank();
    if (first >= count) return;
    pool.run((count - first + ranks() - 1) / ranks(), [&](std::size_t i) {
      const std::size_t begin = (first + i * ranks()) * length();
      body(begin, std::min(rows, begin + length()));
    });
  }

  /// `data` holds as much for every `each` rows, of which `multiple` is one: what each rank has for
  /// its own runs goes to all. Error if it does not.
  template <class T>
  void merge(std::size_t rows, std::span<T> data, std::size_t each = 1) const {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t units = (rows + each - 1) / each, size = data.size() / units;
    if (multiple % each != 0 || size * units != data.size()) {
      fail("{} values cannot be merged by {} rows of {}", data.size(), each, rows);
    }
    if (ranks() == 1) return;
    for (std::size_t run = 0; run * length() < rows; ++run) {
      if (run % ranks() == rank()) continue;
      const std::size_t begin = run * length() / each;
      const std::size_t end = std::min(units, (run + 1) * length() / each);
      const std::span<std::byte> others =
          std::as_writable_bytes(data.subspan(begin * size, (end - begin) * size));
      std::ranges::fill(others, std::byte{0});
    }
    team->merge(std::as_writable_bytes(data));
  }

 private:
  std::size_t ranks() const { return team != nullptr ? static_cast<std::size_t>(team->size()) : 1; }
  std::size_t rank() const { return team != nullptr ? static_cast<std::size_t>(team->rank()) : 0; }
};

}  // namespace squish
