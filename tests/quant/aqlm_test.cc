#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

/// The decoder as aqlm.cc describes the sections, one weight at a time.
Matrix slow_decode(const Packed& packed, std::size_t m, unsigned b, std::size_t g) {
  const SharedBytes &q = bytes_of(packed, "q"), &scale = bytes_of(packed, "scale"),
                    &codebook = bytes_of(packed, "codebook");
  float gain = 0;
  std::memcpy(&gain, bytes_of(packed, "gain").data(), 4);
  const std::size_t row_bytes = ((packed.cols + g - 1) / g * m * b + 7) / 8;
  Matrix out(packed.rows, packed.cols);
  for (std::size_t i = 0; i < packed.rows; ++i) {
    for (std::size_t j = 0; j < packed.cols; ++j) {
      float sum = 0;
      for (std::size_t book = 0; book < m; ++book) {
        const std::size_t code =
            read_bits(std::span(q).subspan(i * row_bytes, row_bytes), j / g * m + book, b);
        sum += half_at(codebook, ((book << b) + code) * g + j % g);
      }
      out(i, j) = gain * half_at(scale, i) * sum;
    }
  }
  return out;
}

TEST(Aqlm, DecodesAsItsSectionsAreDescribed) {
  for (const Shape shape : {Shape{64, 64}, {37, 53}, {3, 5}, {1, 1}, {130, 1}, {1, 130}}) {
    const Matrix w = gaussian(shape.rows, shape.cols, 1);
    for (const std::size_t m : {1, 2, 3}) {
      for (const std::size_t g : {1, 5, 8}) {
        const auto spec = fmt::format("aqlm:m={},b=3,g={}", m, g);
        SCOPED_TRACE(fmt::format("{} {} x {}", spec, shape.rows, shape.cols));
        const Packed packed = encode(w, spec);
        const Matrix fast = decode(packed), slow = slow_decode(packed, m, 3, g);
        for (std::size_t i = 0; i < w.size(); ++i) ASSERT_EQ(fast.data()[i], slow.data()[i]);

        const std::size_t groups = (shape.cols + g - 1) / g;
        EXPECT_EQ(packed.bits().indices, 8 * shape.rows * ((groups * m * 3 + 7) / 8));
        EXPECT_EQ(packed.bits().scales, 16 * shape.rows + 32);
        EXPECT_EQ(packed.bits().codebooks, 16 * m * 8 * g);
        EXPECT_EQ(packed.bits().other, 0u);
      }
    }
  }
}

TEST(Aqlm, NominalBitsAreThePapers) {
  const auto nominal = [](const char* text) {
    return find_method("aqlm").nominal_bpw(Spec::parse(text), 64, 64);
  };
  EXPECT_EQ(nominal("aqlm"), 2.0);
  EXPECT_EQ(nominal("aqlm:m=2,b=4,g=4"), 2.0);
  EXPECT_EQ(nominal("aqlm:m=1,b=15,g=8"), 1.875);
}

TEST(Aqlm, SnrOnASmallMatrix) {
  double sum = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Matrix w = gaussian(64, 64, seed);
    sum += snr(w, decode(encode(w, "aqlm:m=2,b=4,g=4")));
  }
  EXPECT_GT(sum / 10, 10.55);
  EXPECT_LT(sum / 10, 10.9);
}

// peers.md: 10.02 dB at 1024 x 1024 from the authors' code, whose beam is 1. Small matrices fit
// their codebooks better: 10.3 is what 4096 x 4096 gets.
TEST(Aqlm, SnrOfTwoBooksOfEightBits) {
  const Matrix w = gaussian(512, 512, 2);
  const double with_beam = snr(w, decode(encode(w, "aqlm:m=2,b=8,g=8")));
  EXPECT_GT(with_beam, 10.65);
  EXPECT_LT(with_beam, 11.0);
  const double greedy = snr(w, decode(encode(w, "aqlm:m=2,b=8,g=8,beam=1")));
  EXPECT_LT(greedy, with_beam - 0.2);
}

TEST(Aqlm, MoreBooksAndMoreRoundsGainDecibels) {
  const Matrix w = gaussian(128, 128, 3);
  double previous = 0;
  for (const int m : {1, 2, 4}) {
    const double now = snr(w, decode(encode(w, fmt::format("aqlm:m={},b=4,g=4", m))));
    EXPECT_GT(now, previous + 4);  // a bit per weight is worth 6 dB at best
    previous = now;
  }
  const double start = snr(w, decode(encode(w, "aqlm:m=2,b=4,g=4,rounds=0")));
  const double some = snr(w, decode(encode(w, "aqlm:m=2,b=4,g=4,rounds=1")));
  const double all = snr(w, decode(encode(w, "aqlm:m=2,b=4,g=4,rounds=100,tol=0")));
  EXPECT_GT(some, start);
  EXPECT_GT(all, some);
}

TEST(Aqlm, SameBytesForEveryNumberOfThreads) {
  const Matrix w = gaussian(300, 203, 5);
  const Packed one = encode(w, "aqlm:m=2,b=7,g=6", 1);
  for (const int threads : {2, 3}) {
    const Packed many = encode(w, "aqlm:m=2,b=7,g=6", threads);
    for (std::size_t s = 0; s < one.sections.size(); ++s) {
      EXPECT_EQ(one.sections[s].bytes, many.sections[s].bytes) << one.sections[s].name;
    }
  }
}

TEST(Aqlm, EveryInstructionSetDoesAsWell) {
  const Matrix w = gaussian(96, 128, 6);
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    EXPECT_NEAR(snr(w, decode(encode(w, "aqlm:m=2,b=7,g=8"))), 11.55, 0.2) << to_string(isa);
  }
  set_isa(before);
}

TEST(Aqlm, MagnitudeChangesNothing) {
  const Matrix w = gaussian(40, 48, 7, 1.0);
  const Packed base = encode(w, "aqlm:m=2,b=4,g=4");
  const Matrix decoded = decode(base);
  for (const float factor : {0x1p45f, 0x1p-100f}) {  // 4e13 and 8e-31
    Matrix scaled = w;
    for (float& value : std::span(scaled.data(), scaled.size())) value *= factor;
    const Packed packed = encode(scaled, "aqlm:m=2,b=4,g=4");
    for (const char* name : {"q", "scale", "codebook"}) {
      EXPECT_EQ(bytes_of(packed, name), bytes_of(base, name)) << name;
    }
    const Matrix out = decode(packed);
    for (std::size_t i = 0; i < w.size(); ++i) {
      ASSERT_EQ(out.data()[i], decoded.data()[i] * factor);
    }
  }
}

TEST(Aqlm, LosesNothingWhereGroupsAreFew) {
  const Matrix small = gaussian(16, 16, 8);  // 32 groups
  EXPECT_GT(snr(small, decode(encode(small, "aqlm:m=1,b=5,g=8"))), 60);
  const Packed large = encode(small, "aqlm:m=1,b=16,g=8");
  EXPECT_GT(snr(small, decode(large)), 60);
  EXPECT_EQ(large.bits().codebooks, 65536u * 8 * 16);  // unused entries are stored and counted

  Matrix constant(40, 40);
  for (float& value : std::span(constant.data(), constant.size())) value = -3.25f;
  EXPECT_GT(snr(constant, decode(encode(constant, "aqlm"))), 60);
}

TEST(Aqlm, ZerosStayZero) {
  Matrix w = gaussian(24, 48, 9);
  for (float& value : w.row(5)) value = 0;
  const Matrix out = decode(encode(w, "aqlm:m=2,b=4,g=4"));
  for (const float value : out.row(5)) EXPECT_EQ(value, 0.0f);
  const Matrix zero = decode(encode(Matrix(20, 12), "aqlm"));
  for (const float value : std::span(zero.data(), zero.size())) EXPECT_EQ(value, 0.0f);
}

TEST(Aqlm, StandsOutliersAndRowsOfAllMagnitudes) {
  Matrix w = gaussian(64, 64, 10, 1.0);
  for (std::size_t i = 0; i < 64; ++i) {
    for (float& value : w.row(i)) value *= std::pow(10.0f, static_cast<float>(i % 45) - 30.0f);
  }
  w(3, 3) = 1e15f;
  const Matrix out = decode(encode(w, "aqlm:m=2,b=4,g=4"));
  for (const float value : std::span(out.data(), out.size())) ASSERT_TRUE(std::isfinite(value));
  EXPECT_GT(snr(w, out), 10.0);
}

// The best scale of the ones is 100 times their RMS: the entry they share is nearly zero.
TEST(Aqlm, ScalesMayGrowBeyondTheLargestRms) {
  Matrix w(101, 256);
  for (std::size_t i = 0; i < 100; ++i) {
    for (std::size_t d = 0; d < 8; ++d) w(i, i % 32 * 8 + d) = std::sqrt(32.0f);
  }
  for (float& value : w.row(100)) value = 1;
  const Matrix out = decode(encode(w, "aqlm:m=1,b=1,g=8"));
  for (const float value : std::span(out.data(), out.size())) ASSERT_TRUE(std::isfinite(value));
  EXPECT_GT(snr(w, out), 10);
}

TEST(Aqlm, EntriesBeyondTheNumberOfGroupsCostNoTime) {
  const Matrix w = gaussian(16, 16, 8);
  EXPECT_GT(snr(w, decode(encode(w, "aqlm:m=8,b=16,g=8"))), 60);
}

TEST(Aqlm, RefusesWhatMakesNoSense) {
  for (const char* spec : {"aqlm:m=0", "aqlm:m=9", "aqlm:b=17", "aqlm:g=33", "aqlm:beam=0",
                           "aqlm:tol=-1", "aqlm:k=16", "aqlm:m=8,b=16,g=1", "aqlm:m=3,b=11,g=2"}) {
    EXPECT_THROW(Spec::parse(spec), UsageError) << spec;
  }
  for (std::size_t s = 0; s < 4; ++s) {
    Packed packed = encode(gaussian(16, 16, 11), "aqlm:m=2,b=3,g=4");
    const SharedBytes whole = packed.sections[s].bytes;
    packed.sections[s].bytes = whole.part(0, whole.size() - 1);
    EXPECT_THROW(decode(packed), Error);
  }
}

}  // namespace
}  // namespace squish::quant
