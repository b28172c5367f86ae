// What every method must hold, whatever it does inside: each registered method runs through this
// suite with its defaults and with some variants.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "squish/quant/quantizer.h"
#include "tests/quant/methods.h"
#include "tests/test_name.h"

namespace squish::quant {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

struct Case {
  const char* spec;
  double low, high;  // dB on i.i.d. Gaussian weights, 128 x 256
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.spec; }

const std::vector<Case> kCases = {
    {"int4", 20.8, 21.2},
    {"int4:clip=mse", 21.6, 21.9},
    {"int4:sym=1", 19.2, 19.6},
    {"int4:sym=1,g=32,clip=mse,scale=f16", 21.7, 22.05},
    {"int4:sym=0,g=0,scale=f16", 19.1, 19.5},
    {"int2", 6.75, 7.1},
    {"int2:g=32,clip=mse", 10.4, 10.7},
    {"int3", 14.1, 14.5},
    {"int3:g=50", 14.6, 15.0},
    {"int3:sym=1", 11.75, 12.2},
    {"int5", 27.1, 27.45},
    {"int6", 33.25, 33.6},
    {"int7", 39.3, 39.75},
    {"int8", 45.4, 45.8},
    {"vptq", 8.6, 8.9},
    {"vptq:v=8,k=16,r=4", 3.4, 3.65},
    {"vptq:v=3,k=16,r=1", 6.25, 6.5},
    {"vptq:v=8,k=64,r=4,groups=5,outliers=3,ov=2", 6.0, 9.0},
    {"aqlm", 12.2, 12.6},
    {"aqlm:m=2,b=4,g=4", 9.8, 10.1},
    {"aqlm:m=1,b=6,g=5", 5.95, 6.2},
    {"quip", 10.3, 10.55},
    {"quip:bits=3", 15.2, 15.45},
    {"quip:bits=4", 20.45, 20.85},
    {"quip:form=gain", 6.2, 6.4},
    {"trellis", 11.45, 11.75},
    {"trellis:code=fast", 11.2, 11.55},
    {"trellis:bits=1", 5.4, 5.8},
    {"trellis:bits=3", 17.35, 17.65},
    {"trellis:bits=4", 22.9, 23.5},
    {"trellis:bits=4,code=fast", 22.5, 23.2},
    {"trellis:bits=2.5,code=fast", 13.2, 13.9},
    {"trellis:code=fast,form=tiles", 11.2, 11.55},
    {"trellis:code=hyb", 11.2, 11.6},
};

Matrix make(std::size_t rows, std::size_t cols, const std::function<double(std::size_t)>& value) {
  Matrix w(rows, cols);
  for (std::size_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(value(i));
  return w;
}

bool all_finite(const Matrix& w) {
  return std::all_of(w.data(), w.data() + w.size(), [](float x) { return std::isfinite(x); });
}

class EveryMethod : public testing::TestWithParam<Case> {
 protected:
  Packed encode(ConstMatrixView w) { return quantize(w, spec_, {pool_, 1, "tensor"}); }
  Matrix there_and_back(ConstMatrixView w) { return dequantize(encode(w), pool_); }
  bool half_scales() const { return spec_.full().find("scale=f16") != std::string::npos; }

  Spec spec_ = Spec::parse(GetParam().spec);
  ThreadPool pool_{2};
};

TEST(AllMethods, AreCoveredHere) {
  for (const Method& method : methods()) {
    EXPECT_TRUE(std::any_of(kCases.begin(), kCases.end(),
                            [&](const Case& c) { return c.spec == method.name; }))
        << "add a case for the defaults of " << method.name;
    EXPECT_FALSE(method.summary.empty());
    EXPECT_FALSE(method.source.empty());
    for (const Key& key : method.keys) EXPECT_FALSE(key.help.empty()) << method.name;
  }
}

TEST_P(EveryMethod, StaysInItsBandOnGaussianWeights) {
  const Matrix w = gaussian(128, 256, 1);
  const double db = snr(w, there_and_back(w));
  EXPECT_GT(db, GetParam().low);
  EXPECT_LT(db, GetParam().high);
}

TEST_P(EveryMethod, CountsTheBytesThatItStores) {
  const Packed packed = encode(gaussian(48, 80, 1));
  std::uint64_t bytes = 0;
  for (const Section& section : packed.sections) bytes += section.bytes.size();
  EXPECT_EQ(packed.bits().total(), 8 * bytes);
  EXPECT_DOUBLE_EQ(packed.bpw(), 8.0 * static_cast<double>(bytes) / (48 * 80));
  EXPECT_EQ(packed.rows, 48u);
  EXPECT_EQ(packed.cols, 80u);
  EXPECT_EQ(packed.spec, spec_);
}

TEST_P(EveryMethod, GivesTheSameBytesOnAnyNumberOfThreads) {
  const Matrix w = gaussian(100, 130, 1);
  ThreadPool one(1), three(3), four(4);
  const Packed reference = quantize(w, spec_, {one, 5, "tensor"});
  const Matrix decoded = dequantize(reference, one);
  for (ThreadPool* pool : {&pool_, &three, &four}) {
    EXPECT_TRUE(same_bytes(quantize(w, spec_, {*pool, 5, "tensor"}), reference));
    const Matrix again = dequantize(reference, *pool);
    EXPECT_EQ(std::memcmp(again.data(), decoded.data(), 4 * again.size()), 0);
  }
}

TEST_P(EveryMethod, TakesAnyShape) {
  for (const auto& [rows, cols] : std::vector<std::pair<std::size_t, std::size_t>>{
           {1, 1}, {1, 7}, {7, 1}, {3, 5}, {1, 300}, {300, 1}, {17, 33}, {64, 64}, {65, 100}}) {
    const Matrix w = gaussian(rows, cols, 1), decoded = there_and_back(w);
    EXPECT_TRUE(all_finite(decoded)) << rows << " x " << cols;
    EXPECT_GT(snr(w, decoded), 2) << rows << " x " << cols;
  }
}

TEST_P(EveryMethod, TakesWindowsOnALargerMatrix) {
  Matrix wide = gaussian(40, 100, 1);
  const MatrixView window(&wide(3, 10), 30, 60, 100);
  Matrix copy(30, 60);
  for (std::size_t i = 0; i < 30; ++i) {
    std::copy_n(window.row(i).begin(), 60, copy.row(i).begin());
  }
  const Packed packed = encode(window);
  EXPECT_TRUE(same_bytes(packed, encode(copy)));

  const Matrix decoded = dequantize(packed, pool_), before = wide;
  dequantize(packed, window, pool_);
  for (std::size_t i = 0; i < 40; ++i) {
    for (std::size_t j = 0; j < 100; ++j) {
      const bool inside = i >= 3 && i < 33 && j >= 10 && j < 70;
      ASSERT_EQ(wide(i, j), inside ? decoded(i - 3, j - 10) : before(i, j)) << i << ", " << j;
    }
  }
}

TEST_P(EveryMethod, TakesExtremeValues) {
  const Matrix zero = make(24, 40, [](std::size_t) { return 0; });
  const Matrix still_zero = there_and_back(zero);
  for (const float x : still_zero.row(23)) EXPECT_EQ(x, 0);

  const CounterRng rng(2, "extreme");
  const auto normal = [&](std::size_t i) { return rng.normal(i); };
  // A row of ones below rows of one spike each, of 8 columns.
  const auto spiky = [](std::size_t i) {
    return i / 256 == 100 ? 1.0 : i % 256 / 8 == i / 256 % 32 ? std::sqrt(32.0) : 0.0;
  };
  const std::vector<std::pair<const char*, Matrix>> normal_range = {
      {"constant", make(24, 40, [](std::size_t) { return 0.5; })},
      {"alternating", make(24, 40, [](std::size_t i) { return i % 2 != 0 ? -0.02 : 0.02; })},
      {"one outlier", make(24, 40, [&](std::size_t i) { return i == 99 ? 1e4 : normal(i); })},
      {"one in a row of zeros", make(24, 40, [](std::size_t i) { return i == 99 ? 1.0 : 0; })},
      {"halves", make(24, 40, [&](std::size_t i) { return (i < 480 ? 1e-4 : 10) * normal(i); })},
      {"ones below spikes", make(101, 256, spiky)},
  };
  for (const auto& [name, w] : normal_range) {
    const Matrix decoded = there_and_back(w);
    EXPECT_TRUE(all_finite(decoded)) << name;
    EXPECT_GT(snr(w, decoded), 0) << name;
  }

  const double usual = snr(gaussian(24, 40, 1), there_and_back(gaussian(24, 40, 1)));
  if (half_scales()) {
    EXPECT_THAT([&] { encode(gaussian(24, 40, 1, 1e12)); },
                ThrowsMessage<Error>(HasSubstr("use scale=f32")));
  } else {
    for (const double sigma : {1e-15, 1e10, 2e14}) {
      const Matrix w = gaussian(24, 40, 1, sigma);
      EXPECT_NEAR(snr(w, there_and_back(w)), usual, 0.5) << sigma;
    }
    const Matrix tiny = gaussian(24, 40, 1, 1e-30);  // its squares are zero as floats
    EXPECT_GT(snr(tiny, there_and_back(tiny)), usual - 5);
  }
  for (const double sigma : {1e-39, 1e-44}) {  // denormals: nothing is promised but sanity
    EXPECT_TRUE(all_finite(there_and_back(gaussian(24, 40, 1, sigma)))) << sigma;
  }
}

TEST_P(EveryMethod, RejectsWeightsOutsideItsDomain) {
  for (const auto& [value, text] :
       std::vector<std::pair<float, const char*>>{{std::numeric_limits<float>::quiet_NaN(), "nan"},
                                                  {std::numeric_limits<float>::infinity(), "inf"},
                                                  {-std::numeric_limits<float>::infinity(), "-inf"},
                                                  {1.1e15f, "1.1e+15"}}) {
    Matrix w = gaussian(9, 17, 1);
    w(4, 11) = value;
    EXPECT_THAT([&] { encode(w); },
                ThrowsMessage<Error>(AllOf(HasSubstr("(4, 11)"), HasSubstr(text))));
  }
  EXPECT_THAT([&] { encode(Matrix(0, 3)); }, ThrowsMessage<Error>(HasSubstr("empty")));
}

TEST_P(EveryMethod, RejectsMissingAndMisshapenSections) {
  const Packed good = encode(gaussian(20, 24, 1));
  Matrix out(20, 24);
  for (std::size_t s = 0; s < good.sections.size(); ++s) {
    const std::string& name = good.sections[s].name;
    Packed bad = good;
    bad.sections.erase(bad.sections.begin() + static_cast<std::ptrdiff_t>(s));
    EXPECT_THAT([&] { dequantize(bad, out, pool_); },
                ThrowsMessage<Error>(AllOf(HasSubstr(name), HasSubstr("missing"))));
    for (const std::size_t size :
         {std::size_t{0}, good.sections[s].bytes.size() - 1, good.sections[s].bytes.size() + 1}) {
      bad = good;
      Bytes bytes(good.sections[s].bytes.begin(), good.sections[s].bytes.end());
      bytes.resize(size);
      bad.sections[s].bytes = bytes;
      EXPECT_THAT([&] { dequantize(bad, out, pool_); },
                  ThrowsMessage<Error>(AllOf(HasSubstr(name), HasSubstr("expected"))));
    }
  }
  Matrix other(24, 20);
  EXPECT_THROW(dequantize(good, other, pool_), Error);
}

TEST_P(EveryMethod, SurvivesAnyBytes) {
  const Packed packed = encode(gaussian(20, 24, 1));
  const CounterRng rng(3, "noise");
  std::uint64_t next = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    Packed noise = packed;
    for (Section& section : noise.sections) {
      if (section.name == "columns" && repeat % 2 == 0) continue;  // not any are possible
      Bytes bytes(section.bytes.size());
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng.bits(next++));
      section.bytes = bytes;
    }
    Matrix out(20, 24);
    try {
      dequantize(noise, out, pool_);  // any values will do; the sanitizers watch
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("columns of part"));
    }
  }
}

/// Bytes of `a` that are not `b`'s, as a share.
double difference(const Packed& a, const Packed& b) {
  double different = 0, all = 0;
  for (std::size_t s = 0; s < a.sections.size(); ++s) {
    const auto &x = a.sections[s].bytes, &y = b.sections[s].bytes;
    for (std::size_t i = 0; i < x.size(); ++i) different += x[i] != y[i];
    all += static_cast<double>(x.size());
  }
  return different / all;
}

// docs/reliability.md says so: scales that a search found differ in their last bits, all else only
// where a sum lies on the edge between two codes.
TEST_P(EveryMethod, HasAlmostTheSameBytesAndTheSameQualityOnEachInstructionSet) {
  const double most = spec_.full().find("clip=mse") != std::string::npos ? 0.12 : 0.002;
  const Matrix w = gaussian(96, 120, 1);
  const Packed packed = encode(w);
  const double reference = snr(w, dequantize(packed, pool_));
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    const Packed other = encode(w);
    const double db = snr(w, dequantize(other, pool_));
    set_isa(available_isas().back());
    EXPECT_LE(difference(other, packed), most) << to_string(isa);
    EXPECT_NEAR(db, reference, 0.01) << to_string(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(, EveryMethod, testing::ValuesIn(kCases),
                         [](const auto& test) { return test::test_name(test.param.spec); });

}  // namespace
}  // namespace squish::quant
