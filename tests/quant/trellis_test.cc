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

/// The sections as the comment on them says.
struct Stored {
  const Packed& packed;
  std::size_t stream_groups;
  std::size_t blocks;  ///< of columns that have one bit more

  /// Of a code of `bits` in bytes `before` and up of a column of the block.
  float value(const char* name, unsigned bits, std::size_t row, std::size_t col,
              std::size_t before) const {
    const SharedBytes& codes = bytes_of(packed, "codes");
    const std::size_t block = col / 64, width = std::min<std::size_t>(64, packed.cols - 64 * block);
    const std::size_t groups = codes.size() / group_bytes(packed.cols);
    const std::size_t first = row / 8 / stream_groups * stream_groups;
    const std::size_t ring = 8 * std::min(stream_groups, groups - first);
    const TrellisCode& code = trellis_code(name, bits);
    std::uint32_t state = 0;
    for (std::size_t k = 0; bits * k < code.state_bits; ++k) {
      const std::size_t at = 8 * first + (row / code.step * code.step - 8 * first + k) % ring;
      std::uint32_t word = 0;
      for (std::size_t b = 0; b < bits; ++b) {
        const std::size_t byte = at / 8 * group_bytes(packed.cols) + group_bytes(64 * block) +
                                 (before + b) * width + col % 64;
        word |= std::to_integer<std::uint32_t>(codes[byte]) << (8 * b);
      }
      state |= (word >> (bits * (at % 8)) & ((1u << bits) - 1)) << (bits * k);
    }
    state &= static_cast<std::uint32_t>(code.states() - 1);
    return code.values[(row % code.step << code.state_bits) + state];
  }
  unsigned bits(std::size_t col) const {
    return static_cast<unsigned>(packed.spec.real("bits")) + (col / 64 < blocks ? 1 : 0);
  }
  std::size_t group_bytes(std::size_t cols) const {
    std::size_t bytes = 0;
    for (std::size_t j = 0; j < cols; ++j) bytes += bits(j);
    return bytes;
  }
};

/// What was coded: the decoded matrix, rotated again, over the scale.
Matrix rotated_again(const Packed& packed) {
  Matrix rotated(packed.rows, packed.cols);
  float scale = 0;
  std::memcpy(&scale, bytes_of(packed, "scale").data(), 4);
  ThreadPool pool(1);
  rotate(decode(packed), scale, bytes_of(packed, "signs_in"), bytes_of(packed, "signs_out"),
         rotated, pool);
  return rotated;
}

TEST(Trellis, StoresWhatItsCommentSays) {
  struct Case {
    const char *keys, *code;
    std::size_t rows, cols, stream_groups, blocks;
  };
  for (const Case& c : std::vector<Case>{{"bits=2", "hash", 75, 130, 10, 0},
                                         {"bits=2", "fast", 400, 7, 25, 0},
                                         {"bits=2", "fast", 777, 7, 33, 0},
                                         {"bits=1", "fast", 75, 130, 10, 0},
                                         {"bits=3", "fast", 75, 130, 10, 0},
                                         {"bits=4", "fast", 75, 130, 10, 0},
                                         {"bits=2", "hyb", 75, 130, 10, 0},
                                         {"bits=2.25", "fast", 75, 130, 10, 1},
                                         {"bits=3.9", "fast", 75, 130, 10, 2},
                                         {"bits=3.999", "fast", 75, 130, 10, 3}}) {
    const std::string spec = std::string("trellis:") + c.keys + ",code=" + c.code;
    const Packed packed = encode(gaussian(c.rows, c.cols, 1), spec);
    const Stored stored{packed, c.stream_groups, c.blocks};
    const Matrix values = rotated_again(packed);
    for (std::size_t i = 0; i < c.rows; ++i) {
      for (std::size_t j = 0; j < c.cols; ++j) {
        ASSERT_NEAR(values(i, j), stored.value(c.code, stored.bits(j), i, j, 0), 1e-4)
            << spec << ", row " << i << ", column " << j;
      }
    }
  }
}

TEST(Trellis, StoresTheSumOfTwoCodesAboveFourBits) {
  struct Case {
    const char* bits;
    unsigned first;
    double wide, narrow;
  };
  for (const Case& c : {Case{"5", 3, 1.12, 0.138}, Case{"6", 3, 1.2, 0.152},
                        Case{"7", 4, 1.22, 0.078}, Case{"8", 4, 1.3, 0.078}}) {
    const Packed packed =
        encode(gaussian(70, 75, 1), std::string("trellis:code=fast,bits=") + c.bits);
    const Stored stored{packed, 9, 0};
    const Matrix values = rotated_again(packed);
    for (std::size_t i = 0; i < 70; ++i) {
      for (std::size_t j = 0; j < 75; ++j) {
        const double sum = c.wide * stored.value("fast", c.first, i, j, 0) +
                           c.narrow * stored.value("fast", stored.bits(j) - c.first, i, j, c.first);
        ASSERT_NEAR(values(i, j), sum, 1e-4) << c.bits << " bits, row " << i << ", column " << j;
      }
    }
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
  check("trellis:code=fast,bits=2.9", 64, 200, 2 * 64 * 200 + 64 * 192);
  check("trellis:code=fast,bits=5", 64, 200, 5 * 64 * 200);
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
  for (const char* bits : {"2", "2.25", "2.5", "2.75", "3", "4", "4.5", "5", "6", "7", "8"}) {
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
  for (std::size_t j = 0; j < 40; ++j) none.second.at(j, j) = 0;
  broken.second.at(3, 3) = std::nan("");
  for (const InputMoments& moments : {none, broken}) {
    EXPECT_GT(snr(w, decode(encode(w, "trellis:code=fast", moments))), 5);
  }
}

// The reason for streams down the columns (docs/methods/trellis.md).
TEST(Trellis, LosesLessInColumnsThanInTiles) {
  const Matrix w = gaussian(256, 192, 1);
  const InputMoments moments = correlated(192);
  EXPECT_LT(loss(w, encode(w, "trellis:code=fast", moments), moments),
            0.97 * loss(w, encode(w, "trellis:code=fast,form=tiles", moments), moments));
}

TEST(Trellis, StoresTilesAsItsCommentSays) {
  const Packed packed = encode(gaussian(40, 50, 1), "trellis:code=fast,bits=3,form=tiles");
  const TrellisCode& code = trellis_code("fast", 3);
  const SharedBytes& codes = bytes_of(packed, "codes");
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

TEST(Trellis, RefusesWhatItsCodesDoNotHave) {
  const auto expect_refusal = [](const char* spec, const char* sentence) {
    EXPECT_THAT([&] { Spec::parse(spec); },
                testing::ThrowsMessage<UsageError>(testing::HasSubstr(sentence)));
  };
  expect_refusal("trellis:code=hyb,bits=3", "at most 2 bits");
  expect_refusal("trellis:code=3inst,bits=4.5", "only code=hash and code=fast");
  expect_refusal("trellis:form=tiles,bits=5", "whole bits up to 4");
}

// Each bit is worth 6 dB less what the codes are short of the limit.
TEST(Trellis, GainsFromTheSecondCode) {
  const Matrix w = gaussian(256, 256, 1);
  EXPECT_GT(snr(w, decode(encode(w, "trellis:code=fast,bits=5"))), 28.4);
  EXPECT_GT(snr(w, decode(encode(w, "trellis:code=fast,bits=6"))), 34.0);
  EXPECT_GT(snr(w, decode(encode(w, "trellis:code=fast,bits=8"))), 45.8);
}

}  // namespace
}  // namespace squish::quant
