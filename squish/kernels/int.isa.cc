#include "squish/kernels/int.isa.h"

#include "squish/kernels/int_codes.isa.h"

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

template <int Bits>
void decode(const IntMatrix& m, float low, std::size_t begin, std::size_t end, float* rows) {
  for (std::size_t row = begin; row < end; ++row, rows += m.cols) {
    const std::uint8_t* const bytes = m.codes + row * m.row_bytes;
    std::size_t g = row * m.groups, left = 0;  // of the group's columns
    float scale = 0, offset = 0;
    for (std::size_t b = 0; b < m.blocks; ++b) {
      std::uint8_t codes[kBlock];
      unpack_block<Bits>(m, bytes, b, codes);
      const std::size_t first = b * kBlock, n = smaller(kBlock, m.cols - first);
      for (std::size_t j = 0; j < n;) {
        if (left == 0) {
          scale = load_value(m.scale, g, m.half);
          offset = m.zero == nullptr ? low * scale : load_value(m.zero, g, m.half);
          left = m.group;
          ++g;
        }
        const std::size_t stop = smaller(n, j + left);
        left -= stop - j;
        for (; j < stop; ++j) {
          rows[first + j] = scale * static_cast<float>(static_cast<int>(codes[j])) + offset;
        }
      }
    }
  }
}

/// Groups as they come.
template <int Bits>
void multiply(const IntMatrix& m, const IntInput& in, std::size_t begin, std::size_t end,
              float* y) {
  for (std::size_t row = begin; row < end; ++row) {
    const std::uint8_t* const bytes = m.codes + row * m.row_bytes;
    float total = 0, scale = 0;
    std::size_t g = row * m.groups, left = 0;  // of the group's columns
    for (std::size_t b = 0; b < m.blocks; ++b) {
      std::uint8_t codes[kBlock];
      unpack_block<Bits>(m, bytes, b, codes);
      const std::size_t first = b * kBlock, n = smaller(kBlock, m.cols - first);
      for (std::size_t j = 0; j < n;) {
        if (left == 0) {
          scale = load_value(m.scale, g, m.half);
          const float zero = m.zero == nullptr ? scale : load_value(m.zero, g, m.half);
          total += zero * in.sum[g - row * m.groups];
          left = m.group;
          ++g;
        }
        const std::size_t stop = smaller(n, j + left);
        left -= stop - j;
        std::int32_t sum = 0;
        for (; j < stop; ++j) {
          const std::int32_t x = in.x[first + j];
          sum += codes[j] * (kRest<Bits> ? x * (1 << kRestBits) + in.rest[first + j] : x);
        }
        total += scale * in.scale[b] * static_cast<float>(sum);
      }
    }
    y[row] = total;
  }
}

}  // namespace

extern const IntOps kIntOps;
const IntOps kIntOps = {SQUISH_ALL_BITS(multiply), SQUISH_ALL_BITS(decode)};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
