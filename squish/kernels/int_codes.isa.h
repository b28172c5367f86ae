#pragma once
#include <cstddef>
#include <cstdint>

#include "squish/base/half.h"
#include "squish/base/lanes.isa.h"
#include "squish/kernels/int.isa.h"

/// What INT matrices hold, as they are stored, for *.isa.cc files.
namespace squish::kernels::SQUISH_ISA_NAMESPACE {

using squish::SQUISH_ISA_NAMESPACE::smaller;

/// Whether codes are multiplied by what 8 bits leave of the input.
template <int Bits>
constexpr bool kRest = Bits > kCoarseBits;

inline float load_value(const std::uint8_t* values, std::size_t i, bool half) {
  if (half) return from_f16(reinterpret_cast<const std::uint16_t*>(values)[i]);
  return reinterpret_cast<const float*>(values)[i];
}

/// 64 codes; `p` has Bits * 8 bytes.
template <int Bits>
void unpack_into(const std::uint8_t* p, std::uint8_t* codes) {
  constexpr int kMask = (1 << Bits) - 1;
  if constexpr (8 % Bits == 0) {
    constexpr int kEach = 8 / Bits;
    for (int i = 0; i < 8 * Bits; ++i) {
      for (int k = 0; k < kEach; ++k) {
        codes[i * kEach + k] = static_cast<std::uint8_t>(p[i] >> (Bits * k) & kMask);
      }
    }
  } else {
    for (int i = 0; i < 8; ++i) {
      std::uint64_t eight = 0;
      for (int k = 0; k < Bits; ++k) eight |= std::uint64_t{p[i * Bits + k]} << (8 * k);
      for (int k = 0; k < 8; ++k) {
        codes[8 * i + k] = static_cast<std::uint8_t>(eight >> (Bits * k) & kMask);
      }
    }
  }
}

/// The codes of block b of a row; those behind its last are 0.
template <int Bits>
void unpack_block(const IntMatrix& m, const std::uint8_t* row, std::size_t b, std::uint8_t* codes) {
  const std::size_t at = b * 8 * Bits;
  if (at + 8 * Bits <= m.row_bytes) return unpack_into<Bits>(row + at, codes);
  std::uint8_t rest[8 * Bits] = {};
  for (std::size_t i = at; i < m.row_bytes; ++i) rest[i - at] = row[i];
  unpack_into<Bits>(rest, codes);
}

#define SQUISH_ALL_BITS(function) \
  { function<2>, function<3>, function<4>, function<5>, function<6>, function<7>, function<8> }

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
