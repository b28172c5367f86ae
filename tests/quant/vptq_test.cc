#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

double mean_snr(const char* spec, std::size_t rows, std::size_t cols, int seeds) {
  double sum = 0;
  for (int seed = 0; seed < seeds; ++seed) {
    const Matrix w = gaussian(rows, cols, static_cast<std::uint64_t>(seed));
    sum += snr(w, decode(encode(w, spec)));
  }
  return sum / seeds;
}

/// The decoder as vptq.cc describes the sections, one weight at a time.
Matrix slow_decode(const Packed& packed, std::size_t v, std::size_t k, std::size_t r) {
  const auto k_bits = static_cast<unsigned>(std::log2(k)),
             r_bits = static_cast<unsigned>(std::log2(r));
  const SharedBytes &q = bytes_of(packed, "q"), &scale = bytes_of(packed, "scale"),
                    &codebook = bytes_of(packed, "codebook");
  const std::size_t block_bytes = (packed.cols * (k_bits + r_bits) + 7) / 8;
  Matrix out(packed.rows, packed.cols);
  for (std::size_t i = 0; i < packed.rows; ++i) {
    for (std::size_t j = 0; j < packed.cols; ++j) {
      const std::uint32_t code =
          read_bits(std::span(q).subspan(i / v * block_bytes, block_bytes), j, k_bits + r_bits);
      float sum = half_at(codebook, code % k * v + i % v);
      if (r > 1) sum += half_at(codebook, (k + code / k) * v + i % v);
      float s = 0;
      std::memcpy(&s, scale.data() + 4 * j, 4);
      out(i, j) = s * sum;
    }
  }
  return out;
}

TEST(Vptq, DecodesAsItsSectionsAreDescribed) {
  for (const Shape shape : {Shape{64, 64}, {37, 53}, {3, 5}, {1, 1}, {130, 1}, {1, 130}}) {
    const Matrix w = gaussian(shape.rows, shape.cols, 1);
    for (const std::size_t v : {1, 6, 8}) {
      for (const std::size_t r : {1, 4}) {
        const auto spec = fmt::format("vptq:v={},k=16,r={}", v, r);
        SCOPED_TRACE(fmt::format("{} {} x {}", spec, shape.rows, shape.cols));
        const Packed packed = encode(w, spec);
        const Matrix fast = decode(packed), slow = slow_decode(packed, v, 16, r);
        for (std::size_t i = 0; i < w.size(); ++i) ASSERT_EQ(fast.data()[i], slow.data()[i]);

        const std::size_t code_bits = r == 4 ? 6 : 4, blocks = (shape.rows + v - 1) / v;
        EXPECT_EQ(packed.bits().indices, 8 * blocks * ((shape.cols * code_bits + 7) / 8));
        EXPECT_EQ(packed.bits().scales, 32 * shape.cols);
        EXPECT_EQ(packed.bits().codebooks, 16 * v * (16 + (r == 4 ? 4 : 0)));
        EXPECT_EQ(packed.bits().other, 0u);
      }
    }
  }
}

/// Normal weights in one half of the columns, two values in the other, and two columns `larger`.
Matrix two_kinds(std::size_t rows, std::size_t cols, float larger) {
  Matrix w = gaussian(rows, cols, 3);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = cols / 2; j < cols; ++j) w(i, j) = std::copysign(0.08f, w(i, j));
    w(i, 3) *= larger;
    w(i, 9) *= larger;
  }
  return w;
}

TEST(Vptq, PartsAreSectionsOneAfterTheOther) {
  const Matrix w = gaussian(37, 53, 1);
  const Packed packed = encode(w, "vptq:v=8,k=16,r=4,groups=3,outliers=5,ov=3,ok=32");
  // 3 outlier columns of 13 vectors of 5 bits, groups of 16, 17 and 17 of 5 vectors of 6 bits.
  EXPECT_EQ(bytes_of(packed, "q").size(), 13u * 2 + 5 * 12 + 5 * 13 + 5 * 13);
  EXPECT_EQ(bytes_of(packed, "codebook").size(), 2u * (3 * 32 + 3 * 8 * 20));
  EXPECT_EQ(bytes_of(packed, "columns").size(), (53u * 2 + 7) / 8);
  EXPECT_EQ(packed.bits().other, 8u * 14);
  std::vector<std::size_t> count(4);
  for (std::size_t j = 0; j < 53; ++j) ++count[read_bits(bytes_of(packed, "columns"), j, 2)];
  EXPECT_EQ(count, (std::vector<std::size_t>{3, 16, 17, 17}));
  EXPECT_EQ(encode(w, "vptq").sections.size(), 3u);
}

TEST(Vptq, OutlierColumnsAreThoseOfMostEnergy) {
  const Matrix w = two_kinds(128, 64, 30);
  const Packed packed = encode(w, "vptq:v=8,k=16,r=1,outliers=3,ov=2,ok=64");
  for (std::size_t j = 0; j < 64; ++j) {
    EXPECT_EQ(read_bits(bytes_of(packed, "columns"), j, 1), j == 3 || j == 9 ? 0u : 1u) << j;
  }
  // With moments it is the inputs that say so.
  InputMoments moments = uncorrelated(64);
  moments.second.at(20, 20) = moments.second.at(33, 33) = 50;
  const Packed seen = encode(w, "vptq:v=8,k=16,r=1,outliers=3,ov=2,ok=64", moments);
  for (std::size_t j = 0; j < 64; ++j) {
    EXPECT_EQ(read_bits(bytes_of(seen, "columns"), j, 1), j == 20 || j == 33 ? 0u : 1u) << j;
  }
  // Their vectors are half as long and their codebook larger: they are hit much better.
  const auto column_snr = [&](const Packed& p, std::size_t j) {
    const Matrix d = decode(p);
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < 128; ++i) {
      signal += std::pow(w(i, j), 2);
      noise += std::pow(w(i, j) - d(i, j), 2);
    }
    return 10 * std::log10(signal / noise);
  };
  EXPECT_GT(column_snr(packed, 3), column_snr(encode(w, "vptq:v=8,k=16,r=1"), 3) + 8);
}

TEST(Vptq, GroupsHelpWhereColumnsDiffer) {
  const Matrix w = two_kinds(256, 64, 1);
  const double one = snr(w, decode(encode(w, "vptq:v=4,k=16,r=1")));
  const double two = snr(w, decode(encode(w, "vptq:v=4,k=16,r=1,groups=2")));
  EXPECT_GT(two, one + 0.3);
}

TEST(Vptq, ColumnsThatDoNotFitAreRefused) {
  Packed packed = encode(gaussian(16, 20, 1), "vptq:v=4,k=8,r=1,groups=3");
  for (Section& section : packed.sections) {
    if (section.name == "columns") section.bytes = Bytes(section.bytes.size(), std::byte{0xff});
  }
  EXPECT_THROW(decode(packed), Error);
  packed.sections.erase(packed.sections.begin() + 2);
  EXPECT_THROW(decode(packed), Error);
}

TEST(Vptq, NominalBitsAreThePapers) {
  const auto nominal = [](const char* text, std::size_t rows) {
    const Spec spec = Spec::parse(text);
    return find_method("vptq").nominal_bpw(spec, rows, 100);
  };
  EXPECT_DOUBLE_EQ(nominal("vptq:v=8,k=16,r=4", 64), 1.25);
  EXPECT_DOUBLE_EQ(nominal("vptq:v=8,k=256,r=16", 4096), 1.5 + 32.0 / 4096);
  EXPECT_DOUBLE_EQ(nominal("vptq:v=6,k=4096,r=1", 64), 2.5);
  EXPECT_DOUBLE_EQ(nominal("vptq:v=6,k=4096,r=1,outliers=1,ov=4,ok=4096", 64),
                   0.99 * 2 + 0.01 * 3 + 0.5);
}

// The figure to reach is 3.7 dB (the original benchmark); greedy coding, as published, gives it.
TEST(Vptq, SnrOfTheOriginalConfiguration) {
  const double joint = mean_snr("vptq:v=8,k=16,r=4", 64, 64, 20);
  EXPECT_GT(joint, 3.98);
  EXPECT_LT(joint, 4.14);
  const double greedy = mean_snr("vptq:v=8,k=16,r=4,refine=0", 64, 64, 20);
  EXPECT_GT(greedy, 3.68);
  EXPECT_LT(greedy, 3.84);
}

// peers.md: 7.22 dB at 1024 x 1024 from the authors' algorithm. The Shannon bound at the 1.5 bits
// of the indices is 9.03.
TEST(Vptq, SnrOfTheProductionConfiguration) {
  const double joint = mean_snr("vptq", 512, 512, 1);
  EXPECT_GT(joint, 7.7);
  EXPECT_LT(joint, 8.1);
}

TEST(Vptq, SameBytesForEveryNumberOfThreads) {
  const Matrix w = gaussian(203, 300, 5);
  const Packed one = encode(w, "vptq:v=6,k=64,r=8", 1);
  for (const int threads : {2, 3}) {
    const Packed many = encode(w, "vptq:v=6,k=64,r=8", threads);
    for (std::size_t s = 0; s < one.sections.size(); ++s) {
      EXPECT_EQ(one.sections[s].bytes, many.sections[s].bytes) << one.sections[s].name;
    }
  }
}

TEST(Vptq, EveryInstructionSetDoesAsWell) {
  const Matrix w = gaussian(128, 96, 6);
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    EXPECT_NEAR(snr(w, decode(encode(w, "vptq:v=8,k=32,r=8"))), 5.33, 0.15) << to_string(isa);
  }
  set_isa(before);
}

TEST(Vptq, MagnitudeChangesNothing) {
  const Matrix w = gaussian(40, 48, 7, 1.0);
  const Packed base = encode(w, "vptq:v=8,k=16,r=4");
  const Matrix decoded = decode(base);
  for (const float factor : {0x1p45f, 0x1p-100f}) {  // 4e13 and 8e-31
    Matrix scaled = w;
    for (float& value : std::span(scaled.data(), scaled.size())) value *= factor;
    const Packed packed = encode(scaled, "vptq:v=8,k=16,r=4");
    EXPECT_EQ(bytes_of(packed, "q"), bytes_of(base, "q"));
    const Matrix out = decode(packed);
    for (std::size_t i = 0; i < w.size(); ++i) {
      ASSERT_EQ(out.data()[i], decoded.data()[i] * factor);
    }
  }
}

TEST(Vptq, LosesNothingWhereVectorsAreFew) {
  const Matrix small = gaussian(16, 16, 8);  // 32 vectors
  EXPECT_GT(snr(small, decode(encode(small, "vptq:v=8,k=256,r=1"))), 60);
  const Packed large = encode(small, "vptq:v=8,k=65536,r=1");
  EXPECT_GT(snr(small, decode(large)), 60);
  EXPECT_EQ(large.bits().codebooks, 65536u * 8 * 16);  // unused entries are stored and counted

  Matrix rank_one(64, 32), constant(40, 40);
  for (std::size_t i = 0; i < 64; ++i) {
    for (std::size_t j = 0; j < 32; ++j) {
      rank_one(i, j) = std::sin(static_cast<float>(i) + 1) * std::cos(static_cast<float>(j) + 1);
    }
  }
  for (float& value : std::span(constant.data(), constant.size())) value = -3.25f;
  EXPECT_GT(snr(rank_one, decode(encode(rank_one, "vptq:v=8,k=16,r=1"))), 60);
  EXPECT_GT(snr(constant, decode(encode(constant, "vptq:v=8,k=16,r=4"))), 60);
}

TEST(Vptq, ZerosStayZero) {
  Matrix w = gaussian(48, 24, 9);
  for (std::size_t i = 0; i < 48; ++i) w(i, 5) = 0;
  const Matrix out = decode(encode(w, "vptq:v=8,k=16,r=4"));
  for (std::size_t i = 0; i < 48; ++i) EXPECT_EQ(out(i, 5), 0.0f);
  const Matrix zero = decode(encode(Matrix(20, 12), "vptq"));
  for (const float value : std::span(zero.data(), zero.size())) EXPECT_EQ(value, 0.0f);
}

TEST(Vptq, StandsOutliersAndColumnsOfAllMagnitudes) {
  Matrix w = gaussian(64, 64, 10, 1.0);
  for (std::size_t i = 0; i < 64; ++i) {
    for (std::size_t j = 0; j < 64; ++j) {
      w(i, j) *= std::pow(10.0f, static_cast<float>(j % 45) - 30.0f);
    }
  }
  w(3, 3) = 1e15f;
  const Matrix out = decode(encode(w, "vptq:v=8,k=16,r=4"));
  for (const float value : std::span(out.data(), out.size())) ASSERT_TRUE(std::isfinite(value));
  EXPECT_GT(snr(w, out), 4.0);
}

TEST(Vptq, RefusesWhatMakesNoSense) {
  EXPECT_THROW(Spec::parse("vptq:k=24"), UsageError);
  EXPECT_THROW(Spec::parse("vptq:r=3"), UsageError);
  EXPECT_THROW(Spec::parse("vptq:v=0"), UsageError);
  EXPECT_THROW(Spec::parse("vptq:k=131072"), UsageError);
  for (std::size_t s = 0; s < 3; ++s) {
    Packed packed = encode(gaussian(16, 16, 11), "vptq:k=16,r=4");
    const SharedBytes whole = packed.sections[s].bytes;
    packed.sections[s].bytes = whole.part(0, whole.size() - 1);
    EXPECT_THROW(decode(packed), Error);
  }
}

}  // namespace
}  // namespace squish::quant
