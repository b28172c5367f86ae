#pragma once
#include <utility>

#include "squish/base/lanes.isa.h"
#include "squish/kernels/constants.h"

/// How loops over kRows rows end, for *.isa.cc files.
namespace squish::kernels::SQUISH_ISA_NAMESPACE {

using squish::SQUISH_ISA_NAMESPACE::Floats;
using squish::SQUISH_ISA_NAMESPACE::kLanes;

/// One for each row.
struct RowVectors {
  Floats v[kRows];
};

// Both make one vector of two: in each 128 bits, what the first's lanes l and l + 2 add up to is
// at 2 l and the second's at 2 l + 1; the first's at l and the second's at l + 2.
template <std::size_t... L>
Floats fold_and_zip(Floats a, Floats b, std::index_sequence<L...> /*lanes*/) {
  return __builtin_shufflevector(a, b, (L / 4 * 4 + L % 4 / 2 + L % 2 * kLanes)...) +
         __builtin_shufflevector(a, b, (L / 4 * 4 + L % 4 / 2 + L % 2 * kLanes + 2)...);
}
template <std::size_t... L>
Floats fold_and_join(Floats a, Floats b, std::index_sequence<L...> /*lanes*/) {
  return __builtin_shufflevector(a, b, (L / 4 * 4 + L % 2 + L % 4 / 2 * kLanes)...) +
         __builtin_shufflevector(a, b, (L / 4 * 4 + L % 2 + L % 4 / 2 * kLanes + 2)...);
}

/// y[0 .. n): the sums over the lanes; n may be more than there are rows.
inline void store_totals(const RowVectors& sums, float* y, std::size_t n) {
  constexpr std::make_index_sequence<kLanes> lanes;
  const Floats all = fold_and_join(fold_and_zip(sums.v[0], sums.v[1], lanes),
                                   fold_and_zip(sums.v[2], sums.v[3], lanes), lanes);
  typedef float Four __attribute__((vector_size(16), may_alias));
  Four total = reinterpret_cast<const Four*>(&all)[0];
  for (std::size_t q = 1; q < kLanes / 4; ++q) total += reinterpret_cast<const Four*>(&all)[q];
  if (n >= kRows) {
    __builtin_memcpy(y, &total, sizeof(total));
  } else {
    for (std::size_t r = 0; r < n; ++r) y[r] = total[r];
  }
}

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
