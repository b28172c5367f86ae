#pragma once

#include <immintrin.h>

#include <cstdint>

/// For *.isa.cc files, with AVX-512 VBMI.
namespace squish::kernels::SQUISH_ISA_NAMESPACE {

/// A function of bytes, of 64 at a time.
class ByteTable {
 public:
  explicit ByteTable(const std::uint8_t* t)
      : quarters_{_mm512_loadu_si512(t), _mm512_loadu_si512(t + 64), _mm512_loadu_si512(t + 128),
                  _mm512_loadu_si512(t + 192)} {}
  __m512i look_up(__m512i at) const {
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(at),
                                  _mm512_permutex2var_epi8(quarters_[0], at, quarters_[1]),
                                  _mm512_permutex2var_epi8(quarters_[2], at, quarters_[3]));
  }

 private:
  __m512i quarters_[4];
};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
