#include "squish/base/bits.h"

#include <gtest/gtest.h>

#include "squish/base/random.h"

namespace squish {
namespace {

TEST(Bits, PackIsTheDocumentedOrder) {
  // 3-bit fields 1, 2, 7 are the stream 100 010 111, LSB first: byte 0 = 0b11010001, byte 1 = 1.
  const Bytes packed = pack_bits(std::vector<std::uint32_t>{1, 2, 7}, 3);
  ASSERT_EQ(packed.size(), 2u);
  EXPECT_EQ(packed[0], std::byte{0b11010001});
  EXPECT_EQ(packed[1], std::byte{1});
}

TEST(Bits, EveryWidthRoundTrips) {
  const CounterRng random(1, "bits");
  for (unsigned width = 1; width <= 32; ++width) {
    std::vector<std::uint32_t> values(57), back(57);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<std::uint32_t>(random.bits(i) >> (64 - width));
    }
    const Bytes packed = pack_bits(values, width);
    ASSERT_EQ(packed.size(), packed_bytes(values.size(), width));
    unpack_bits(packed, width, back);
    EXPECT_EQ(back, values) << width;
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(read_bits(packed, i, width), values[i]);
    }
  }
}

}  // namespace
}  // namespace squish
