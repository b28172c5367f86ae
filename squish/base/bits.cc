#include "squish/base/bits.h"

#include <cassert>

namespace squish {

std::uint32_t read_bits(std::span<const std::byte> stream, std::size_t index, unsigned width) {
  assert(width >= 1 && width <= 32);
  const std::size_t first = index * width, last = first + width - 1;
  assert(last / 8 < stream.size());
  std::uint64_t window = 0;
  for (std::size_t byte = first / 8; byte <= last / 8; ++byte) {
    window |= std::to_integer<std::uint64_t>(stream[byte]) << (8 * (byte - first / 8));
  }
  return static_cast<std::uint32_t>((window >> (first % 8)) & ((std::uint64_t{1} << width) - 1));
}

Bytes pack_bits(std::span<const std::uint32_t> values, unsigned width) {
  assert(width >= 1 && width <= 32);
  Bytes stream(packed_bytes(values.size(), width));
  std::uint64_t window = 0;
  unsigned filled = 0;
  std::size_t out = 0;
  for (const std::uint32_t value : values) {
    assert(width == 32 || value >> width == 0);
    window |= std::uint64_t{value} << filled;
    for (filled += width; filled >= 8; filled -= 8, window >>= 8) {
      stream[out++] = static_cast<std::byte>(window & 0xff);
    }
  }
  if (filled > 0) stream[out] = static_cast<std::byte>(window & 0xff);
  return stream;
}

void unpack_bits(std::span<const std::byte> stream, unsigned width,
                 std::span<std::uint32_t> values) {
  assert(stream.size() == packed_bytes(values.size(), width));
  const std::uint64_t mask = (std::uint64_t{1} << width) - 1;
  std::uint64_t window = 0;
  unsigned filled = 0;
  std::size_t in = 0;
  for (std::uint32_t& value : values) {
    for (; filled < width; filled += 8) {
      window |= std::to_integer<std::uint64_t>(stream[in++]) << filled;
    }
    value = static_cast<std::uint32_t>(window & mask);
    window >>= width;
    filled -= width;
  }
}

}  // namespace squish
