// The trellis: its sections, its streams, and what feedback does for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "squish/base/error.h"
#include "squish/quant/incoherence.h"
#include "squish/quant/trellis_code.h"
#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

/// From the comment on the sections alone: rotated weights over the scale. `blocks`: of columns
/// that have one bit more.
Matrix values_of(const Packed& packed, std::size_t stream_groups, std::size_t blocks) {
  const auto low = static_cast<unsigned>(packed.spec.real("bits"));
  const Bytes& codes = bytes_of(packed, "codes");
  Matrix values(packed.rows, packed.cols);
  std::size_t per_group = 0;
  for (std::size_t j = 0; j < packed.cols; ++j) per_group += low + (j / 64 < blocks ? 1 : 0);
  const std::size_t groups = codes.size() / per_group;
  std::size_t before = 0;  // bytes of a group before the block
  for (std::size_t block = 0; 64 * block < packed.cols; ++block) {
    const unsigned bits = low + (block < blocks ? 1 : 0);
    const std::size_t width = std::min<std::size_t>(64, packed.cols - 64 * block);
    const TrellisCode& code = trellis_code(packed.spec.word("code"), bits);
    const auto symbol = [&](std::size_t row, std::size_t column) {
      std::uint32_t word = 0;
      for (std::size_t b = 0; b < bits; ++b) {
        const std::size_t at = row / 8 * per_group + before + b * width + column;
        word |= std::to_integer<std::uint32_t>(codes[at]) << (8 * b);
      }
      return word >> (bits * (row % 8)) & ((1u << bits) - 1);
    };
    for (std::size_t i = 0; i < packed.rows; ++i) {
      const std::size_t first = i / 8 / stream_groups * stream_groups;
      const std::size_t ring = 8 * std::min(stream_groups, groups - first);
      const std::size_t even = i / code.step * code.step;
      for (std::size_t column = 0; column < width; ++column) {
        std::uint32_t state = 0;
        for (std::size_t k = 0; bits * k < code.state_bits; ++k) {
          state |= symbol(8 * first + (even - 8 * first + k) % ring, column) << (bits * k);
        }
        state &= static_cast<std::uint32_t>(code.states() - 1);
        values(i, 64 * block + column) = code.values[(i % code.step << code.state_bits) + state];
      }
    }
    before += bits * width;
  }
  return values;
}

TEST(Trellis, StoresWhatItsCommentSays) {
  for (const auto& [spec, blocks] :
       std::vector<std::pair<const char*, std::size_t>>{{"trellis", 0},
                                                        {"trellis:bits=1,code=fast", 0},
                                                        {"trellis:bits=3,code=fast", 0},
                                                        {"trellis:bits=4,code=fast", 0},
                                                        {"trellis:bits=2,code=hyb", 0},
                                                        {"trellis:bits=2.25,code=fast", 1},
                                                        {"trellis:bits=3.67,code=fast", 2}}) {
    const Matrix w = gaussian(75, 130, 1);
    const Packed packed = encode(w, spec);
    const Matrix values = values_of(packed, 10, blocks);
    // Rotations keep lengths and inner products are those of the decoded matrix.
    double squares = 0, decoded_squares = 0;
    const Matrix decoded = decode(packed);
    float scale = 0;
    std::memcpy(&scale, bytes_of(packed, "scale").data(), 4);
    for (std::size_t i = 0; i < values.size(); ++i) {
      squares += std::pow(double{values.data()[i]} * scale, 2);
      decoded_squares += std::pow(double{decoded.data()[i]}, 2);
    }
    EXPECT_NEAR(squares / decoded_squares, 1, 1e-4) << spec;
  }
}

TEST(Trellis, TakesExactlyItsBitsAndTheSigns) {
  const auto check = [](const char* spec, std::size_t rows, std::size_t cols, double bits) {
    const Packed packed = encode(gaussian(rows, cols, 1), spec);
    EXPECT_EQ(packed.bits().indices, static_cast<std::uint64_t>(bits)) << spec;
    EXPECT_EQ(packed.bits().other, 8 * ((rows + 7) / 8 + (cols + 7) / 8)) << spec;
    EXPECT_EQ(packed.bits().scales, 32u) << spec;
  };
  check("trellis:code=fast", 576, 72, 2 * 576 * 72);
  check("trellis:code=fast,bits=3", 192, 100, 3 * 192 * 100);
  check("trellis:code=fast", 57, 9, 2 * 64 * 9);  // whole groups
  check("trellis:code=fast,bits=2.5", 64, 200, 2 * 64 * 200 + 64 * 128);
  check("trellis:code=fast,bits=2.1", 64, 200, 2 * 64 * 200);
  check("trellis:bits=1", 3, 9, 1 * 64 * 9);  // a ring holds four states
}

TEST(Trellis, LosesMuchLessWithFeedbackAndLessStillAfterSweeps) {
  const Matrix w = gaussian(128, 192, 1);
  const InputMoments moments = correlated(192);
  for (const char* bits : {"2", "3"}) {
    const std::string spec = std::string("trellis:code=fast,bits=") + bits;
    const double nearest = loss(w, encode(w, spec), moments);
    const double ldlq = loss(w, encode(w, spec + ",sweeps=0", moments), moments);
    const double swept = loss(w, encode(w, spec + ",sweeps=2", moments), moments);
    EXPECT_LT(ldlq, 0.5 * nearest) << bits;
    EXPECT_LT(swept, ldlq) << bits;
  }
}

TEST(Trellis, LosesLessForEachFractionOfABit) {
  const Matrix w = gaussian(64, 256, 1);
  const InputMoments moments = correlated(256);
  double last = 1;
  for (const char* bits : {"2", "2.25", "2.5", "2.75", "3"}) {
    const double now =
        loss(w, encode(w, std::string("trellis:code=fast,bits=") + bits, moments), moments);
    EXPECT_LT(now, 0.95 * last) << bits;
    last = now;
  }
}

TEST(Trellis, LosesLessThanLatticePoints) {
  const Matrix w = gaussian(128, 192, 1);
  const InputMoments moments = correlated(192);
  for (const char* bits : {"2", "3", "4"}) {
    const std::string rate = std::string(":bits=") + bits;
    EXPECT_LT(loss(w, encode(w, "trellis" + rate + ",code=fast", moments), moments),
              loss(w, encode(w, "quip" + rate, moments), moments))
        << bits;
  }
}

TEST(Trellis, GivesTheSameBytesOnAnyNumberOfThreads) {
  const Matrix w = gaussian(600, 40, 1);
  for (const char* spec : {"trellis:code=fast,sweeps=1", "trellis:code=fast,bits=4"}) {
    expect_same_on_any_threads(w, spec, correlated(40));
  }
}

TEST(Trellis, TakesAnyShapeAndBrokenMoments) {
  for (const auto& [rows, cols] : std::vector<std::pair<std::size_t, std::size_t>>{
           {1, 1}, {3, 5}, {65, 1}, {1, 300}, {70, 43}, {520, 3}}) {
    const Matrix w = gaussian(rows, cols, 1);
    EXPECT_GT(snr(w, decode(encode(w, "trellis:code=fast,bits=4", correlated(cols)))), 10)
        << rows << " x " << cols;
  }
  const Matrix w = gaussian(16, 40, 1);
  InputMoments none = uncorrelated(40), broken = correlated(40);
  for (std::size_t j = 0; j < 40; ++j) none.second(j, j) = 0;
  broken.second(3, 3) = std::nan("");
  for (const InputMoments& moments : {none, broken}) {
    EXPECT_GT(snr(w, decode(encode(w, "trellis:code=fast", moments))), 5);
  }
}

// The reason for streams down the columns (docs/trellis.md).
TEST(Trellis, LosesLessInColumnsThanInTiles) {
  const Matrix w = gaussian(256, 192, 1);
  const InputMoments moments = correlated(192);
  EXPECT_LT(loss(w, encode(w, "trellis:code=fast", moments), moments),
            0.97 * loss(w, encode(w, "trellis:code=fast,form=tiles", moments), moments));
}

TEST(Trellis, StoresTilesAsItsCommentSays) {
  const Packed packed = encode(gaussian(40, 50, 1), "trellis:code=fast,bits=3,form=tiles");
  const TrellisCode& code = trellis_code("fast", 3);
  const Bytes& codes = bytes_of(packed, "codes");
  ASSERT_EQ(codes.size(), 3u * 4 * 256 * 3 / 8);
  // Weight (3, 21) is in the second tile.
  const auto bit = [&](std::size_t tile, std::size_t at) {
    at %= 768;
    return std::to_integer<std::uint32_t>(codes[96 * tile + at / 8]) >> (at % 8) & 1;
  };
  std::uint32_t state = 0;
  for (std::size_t b = 0; b < 12; ++b) state |= bit(1, 3 * (3 * 16 + 5) + b) << b;
  const Matrix whole = decode(packed);
  Matrix rotated(40, 50);
  float scale = 0;
  std::memcpy(&scale, bytes_of(packed, "scale").data(), 4);
  ThreadPool pool(1);
  rotate(whole, scale, bytes_of(packed, "signs_in"), bytes_of(packed, "signs_out"), rotated, pool);
  EXPECT_NEAR(rotated(3, 21), code.values[state], 1e-4);
}

TEST(Trellis, RefusesMomentsThatWerePreparedForAnotherSpec) {
  const Matrix w = gaussian(32, 64, 1);
  ThreadPool pool(1);
  const auto expect_refusal = [&](const char* prepared_for, const char* spec) {
    const auto prepared = prepare(correlated(64), Spec::parse(prepared_for), pool);
    EXPECT_THAT(
        [&] {
          quantize(w, Spec::parse(spec), {pool, 1, "t", prepared.get()});
        },
        testing::ThrowsMessage<Error>(testing::HasSubstr("not prepared for")))
        << prepared_for << ", " << spec;
  };
  expect_refusal("quip", "trellis:code=fast");
  expect_refusal("trellis:code=fast,form=tiles", "trellis:code=fast");
  expect_refusal("trellis:code=fast", "trellis:code=fast,form=tiles");
  expect_refusal("trellis:code=fast", "trellis:code=fast,sweeps=1");
  expect_refusal("trellis:code=fast", "quip");
}

TEST(Trellis, RefusesTheHybridCodeAboveTwoBits) {
  EXPECT_THAT([] { Spec::parse("trellis:code=hyb,bits=3"); },
              testing::ThrowsMessage<UsageError>(testing::HasSubstr("at most 2 bits")));
}

}  // namespace
}  // namespace squish::quant
