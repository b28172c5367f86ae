#pragma once
#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
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

/// Bytes that do not change: copies share them. Somebody else's (a mapped file's) as well, whom
/// `owner` keeps alive.
class SharedBytes {
 public:
  SharedBytes() = default;
  SharedBytes(Bytes own) {  // NOLINT: implicit by design
    const auto kept = std::make_shared<const Bytes>(std::move(own));
    bytes_ = *kept;
    owner_ = kept;
  }
  SharedBytes(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {}

  std::size_t size() const { return bytes_.size(); }
  const std::byte* data() const { return bytes_.data(); }
  std::byte operator[](std::size_t i) const { return bytes_[i]; }
  auto begin() const { return bytes_.begin(); }
  auto end() const { return bytes_.end(); }
  /// `count` of them from `first` on; they keep all alive.
  SharedBytes part(std::size_t first, std::size_t count) const {
    return {bytes_.subspan(first, count), owner_};
  }
  operator std::span<const std::byte>() const { return bytes_; }  // NOLINT: implicit by design
  bool operator==(const SharedBytes& other) const {
    return std::equal(begin(), end(), other.begin(), other.end());
  }

 private:
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
};

}  // namespace squish
