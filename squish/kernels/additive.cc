#include "squish/kernels/additive.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "squish/base/half.h"
#include "squish/base/isa.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(AdditiveOps, kAdditiveOps);

namespace {

// Bytes up to which a book is kept as floats: larger ones would leave the nearest cache, and then
// conversions from halves cost less than misses.
constexpr std::size_t kMostFloats = 16 * 1024;

std::size_t vectors_of(std::size_t dim) {
  return std::bit_ceil((dim + kEntryLanes - 1) / kEntryLanes);
}

}  // namespace

AdditiveBooks::AdditiveBooks(std::span<const std::byte> stored, std::size_t dim,
                             std::span<const std::size_t> sizes)
    : ops_(choose(scalar::kAdditiveOps, avx2::kAdditiveOps, avx512::kAdditiveOps,
                  avx512vbmi::kAdditiveOps)),
      vectors_(vectors_of(dim)) {
  const std::size_t padded = vectors_ * kEntryLanes;
  const std::byte* from = stored.data();
  for (const std::size_t size : sizes) {
    const bool halves = ops_.halves && 4 * size * padded > kMostFloats;
    const std::size_t entry_bytes = (halves ? 2 : 4) * padded;
    books_.push_back({.entries = from,
                      .halves = halves,
                      .entry_shift = static_cast<unsigned>(std::countr_zero(entry_bytes)),
                      .first_bit = 0,
                      .bits = 0});
    if (halves && dim == padded) {
      from += size * entry_bytes;
      continue;
    }
    Bytes& entries = entries_.emplace_back(size * entry_bytes);
    books_.back().entries = entries.data();
    for (std::size_t e = 0; e < size; ++e) {
      std::byte* const to = entries.data() + e * entry_bytes;
      for (std::size_t d = 0; d < dim; ++d, from += 2) {
        std::uint16_t half = 0;
        std::memcpy(&half, from, 2);
        const float value = from_f16(half);
        halves ? std::memcpy(to + 2 * d, &half, 2) : std::memcpy(to + 4 * d, &value, 4);
      }
    }
  }
}

void AdditiveBooks::set(AdditivePart& part) const {
  part.books = static_cast<unsigned>(books_.size());
  std::ranges::copy(books_, part.book);
}

void AdditiveBooks::multiply(const AdditivePart& part, bool spread, std::size_t begin,
                             std::size_t end, float* out) const {
  ops_.multiply[spread][std::countr_zero(vectors_)](part, begin, end, out);
}

}  // namespace squish::kernels
