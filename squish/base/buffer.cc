#include "squish/base/buffer.h"

#include <sys/mman.h>

#include <limits>
#include <new>

namespace squish {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// What is a few huge pages long wastes little by being aligned to one.
std::align_val_t alignment(std::size_t bytes) {
  return std::align_val_t(bytes >= 4 * kHugePage ? kHugePage : kAlignment);
}

}  // namespace

void* allocate_aligned(std::size_t n, std::size_t size) {
  if (n > std::numeric_limits<std::size_t>::max() / size) throw std::bad_array_new_length();
  const std::size_t bytes = n * size;
  void* const p = ::operator new(bytes, alignment(bytes));
  // Advice alone: where it is refused, pages are small.
  if (bytes >= 4 * kHugePage) madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  return p;
}

void deallocate_aligned(void* p, std::size_t n, std::size_t size) {
  ::operator delete(p, alignment(n * size));
}

}  // namespace squish
