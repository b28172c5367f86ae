#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "squish/base/buffer.h"

namespace squish {

/// Bytes that `count` fields of `width` bits take, rounded up to whole bytes.
constexpr std::size_t packed_bytes(std::size_t count, unsigned width) {
  return (count * width + 7) / 8;
}

/// Field `index` of `width` bits (1 to 32) in a little-endian, LSB-first bit stream: bit b of the
/// stream is bit b % 8 of byte b / 8. The caller guarantees that the field lies within `stream`.
std::uint32_t read_bits(std::span<const std::byte> stream, std::size_t index, unsigned width);

/// Whole runs of fields; `stream` holds exactly packed_bytes(values.size(), width) bytes.
Bytes pack_bits(std::span<const std::uint32_t> values, unsigned width);
void unpack_bits(std::span<const std::byte> stream, unsigned width,
                 std::span<std::uint32_t> values);

}  // namespace squish
