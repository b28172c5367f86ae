#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/base/random.h"
#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

struct Case {
  unsigned bits;
  bool symmetric, half;
  std::size_t rows, cols, group;  // group 0: the whole row

  std::string spec(const std::string& clip = "none") const {
    return "int" + std::to_string(bits) + ":sym=" + (symmetric ? "1" : "0") +
           ",g=" + std::to_string(group) + ",clip=" + clip + ",scale=" + (half ? "f16" : "f32");
  }
  std::size_t group_size() const { return group == 0 ? cols : group; }
  std::size_t groups() const { return (cols + group_size() - 1) / group_size(); }
};

/// All widths with both kinds of grid and scale, with groups that divide a row, leave a remainder,
/// are longer than it, or hold one weight.
std::vector<Case> shapes() {
  std::vector<Case> all;
  for (unsigned bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {false, true}) {
      for (const bool half : {false, true}) {
        for (const std::size_t group : {0, 1, 5, 37, 64}) {
          all.push_back({bits, symmetric, half, 6, 37, group});
        }
        all.push_back({bits, symmetric, half, 3, 64, 16});
      }
    }
  }
  return all;
}

/// Gaussian with a few outliers and a row of zeros.
Matrix weights(std::size_t rows, std::size_t cols, std::uint64_t seed) {
  const CounterRng rng(seed, "weights");
  Matrix w(rows, cols);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double size = i % 41 == 7 ? 0.2 : 0.02;
    w.data()[i] = i / cols == 1 ? 0.0f : static_cast<float>(size * rng.normal(i));
  }
  return w;
}

const SharedBytes& section(const Packed& packed, const std::string& name) {
  for (const Section& s : packed.sections) {
    if (s.name == name) return s.bytes;
  }
  throw std::out_of_range(name);
}

float number(std::span<const std::byte> bytes, std::size_t index, bool half) {
  std::uint16_t h = 0;
  float f = 0;
  if (half) {
    std::memcpy(&h, bytes.data() + 2 * index, 2);
    return from_f16(h);
  }
  std::memcpy(&f, bytes.data() + 4 * index, 4);
  return f;
}

/// Code of one weight, bit by bit: rows start on bytes, fields are LSB first.
int code_at(const Packed& packed, const Case& shape, std::size_t row, std::size_t col) {
  const std::size_t row_bytes = (shape.cols * shape.bits + 7) / 8;
  int code = 0;
  for (unsigned b = 0; b < shape.bits; ++b) {
    const std::size_t at = col * shape.bits + b;
    const auto byte = std::to_integer<unsigned>(section(packed, "q")[row * row_bytes + at / 8]);
    code |= static_cast<int>(byte >> (at % 8) & 1) << b;
  }
  return code;
}

struct Grid {
  double scale, zero;
};

Grid grid_at(const Packed& packed, const Case& shape, std::size_t row, std::size_t col) {
  const std::size_t index = row * shape.groups() + col / shape.group_size();
  return {number(section(packed, "scale"), index, shape.half),
          shape.symmetric ? 0.0 : number(section(packed, "zero"), index, shape.half)};
}

double slow_value(const Packed& packed, const Case& shape, std::size_t row, std::size_t col) {
  const Grid grid = grid_at(packed, shape, row, col);
  const int offset = shape.symmetric ? 1 << (shape.bits - 1) : 0;
  return grid.scale * (code_at(packed, shape, row, col) - offset) + grid.zero;
}

TEST(Int, SectionsMeanWhatTheFormatSays) {
  ThreadPool pool(2);
  for (const Case& shape : shapes()) {
    for (const char* clip : {"none", "mse"}) {
      const Spec spec = Spec::parse(shape.spec(clip));
      const Packed packed = quantize(weights(shape.rows, shape.cols, 1), spec, {pool});
      const Matrix decoded = dequantize(packed, pool);
      for (std::size_t i = 0; i < shape.rows; ++i) {
        for (std::size_t j = 0; j < shape.cols; ++j) {
          ASSERT_NEAR(decoded(i, j), slow_value(packed, shape, i, j), 1e-6)
              << spec.full() << " (" << i << ", " << j << ")";
        }
      }
      const std::size_t scale_bits = (shape.symmetric ? 1 : 2) * (shape.half ? 16 : 32);
      EXPECT_EQ(packed.bits().scales, shape.rows * shape.groups() * scale_bits);
      EXPECT_EQ(packed.bits().indices, 8 * shape.rows * ((shape.cols * shape.bits + 7) / 8));
    }
  }
}

TEST(Int, RoundsToTheNearestPointOfTheGridItStores) {
  ThreadPool pool(2);
  for (const Case& shape : shapes()) {
    const Matrix w = weights(shape.rows, shape.cols, 2);
    for (const char* clip : {"none", "mse"}) {
      const Packed packed = quantize(w, Spec::parse(shape.spec(clip)), {pool});
      const int levels = 1 << shape.bits, offset = shape.symmetric ? levels / 2 : 0;
      for (std::size_t i = 0; i < shape.rows; ++i) {
        for (std::size_t j = 0; j < shape.cols; ++j) {
          const Grid grid = grid_at(packed, shape, i, j);
          const double error = std::abs(slow_value(packed, shape, i, j) - w(i, j));
          double least = error;
          for (int code = 0; code < levels; ++code) {
            const double value = grid.scale * (code - offset) + grid.zero;
            least = std::min(least, std::abs(value - w(i, j)));
          }
          ASSERT_LE(error, least + 1e-6) << packed.spec.full() << " (" << i << ", " << j << ")";
        }
      }
    }
  }
}

TEST(Int, GridSpansTheGroup) {
  ThreadPool pool(1);
  for (const Case& shape : shapes()) {
    if (shape.half) continue;
    const Matrix w = weights(shape.rows, shape.cols, 3);
    const Packed packed = quantize(w, Spec::parse(shape.spec()), {pool});
    for (std::size_t i = 0; i < shape.rows; ++i) {
      for (std::size_t first = 0; first < shape.cols; first += shape.group_size()) {
        const std::size_t size = std::min(shape.group_size(), shape.cols - first);
        const auto group = w.row(i).subspan(first, size);
        const float low = *std::min_element(group.begin(), group.end());
        const float high = *std::max_element(group.begin(), group.end());
        const Grid grid = grid_at(packed, shape, i, first);
        const int top = (1 << (shape.bits - (shape.symmetric ? 1 : 0))) - 1;
        if (shape.symmetric) {
          EXPECT_NEAR(grid.scale * top, std::max(-low, high), 1e-6);
        } else {
          EXPECT_EQ(grid.zero, low);
          EXPECT_NEAR(grid.zero + grid.scale * top, high, 1e-6);
        }
      }
    }
  }
}

TEST(Int, LaysOutNibblesLowHalfFirst) {
  ThreadPool pool(1);
  Matrix w(1, 16);
  for (std::size_t j = 0; j < 16; ++j) w(0, j) = static_cast<float>(j) - 3;
  const Packed packed = quantize(w, Spec::parse("int4:sym=0,g=16"), {pool});
  const std::vector<int> expected = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
  for (std::size_t b = 0; b < 8; ++b) {
    EXPECT_EQ(std::to_integer<int>(section(packed, "q")[b]), expected[b]);
  }
  EXPECT_EQ(number(section(packed, "scale"), 0, false), 1.0f);
  EXPECT_EQ(number(section(packed, "zero"), 0, false), -3.0f);
}

TEST(Int, ReproducesWeightsOnAGridExactly) {
  ThreadPool pool(2);
  const CounterRng rng(4, "grid");
  for (const char* clip : {"none", "mse"}) {
    for (const Case& shape : shapes()) {
      // A group of one weight has not both ends.
      if (shape.group_size() < 2 || shape.cols % shape.group_size() == 1) continue;
      Matrix w(shape.rows, shape.cols);
      const int levels = 1 << shape.bits;
      for (std::size_t i = 0; i < w.size(); ++i) {
        // Powers of two are exact in f16, and the ends of the range occur in each group.
        const std::size_t place = i % shape.cols % shape.group_size();
        const int code = place == 0   ? levels - 1
                         : place == 1 ? (shape.symmetric ? 1 : 0)
                                      : static_cast<int>(rng.below(i, levels - 1)) + 1;
        w.data()[i] = 0.0078125f * static_cast<float>(code - levels / 2);
      }
      const Packed packed = quantize(w, Spec::parse(shape.spec(clip)), {pool});
      const Matrix decoded = dequantize(packed, pool);
      for (std::size_t i = 0; i < w.size(); ++i) {
        ASSERT_NEAR(decoded.data()[i], w.data()[i], 2e-7) << packed.spec.full();
      }
    }
  }
}

TEST(Int, LeastSquaresIsNeverWorseThanTheRange) {
  ThreadPool pool(2);
  const CounterRng rng(5, "shapes of distribution");
  const std::vector<std::function<double(std::size_t)>> sources = {
      [&](std::size_t i) { return rng.normal(i); },
      [&](std::size_t i) { return rng.uniform(i); },
      [&](std::size_t i) { return std::pow(rng.normal(i), 3); },
      [&](std::size_t i) { return i % 64 == 5 ? 30.0 : rng.normal(i); },
      [&](std::size_t i) { return static_cast<double>(rng.below(i, 3)); },
      [&](std::size_t i) { return 1 + 1e-3 * rng.normal(i); },
      [](std::size_t i) { return i % 2 != 0 ? 1.0 : -1.0; },
  };
  for (std::size_t source = 0; source < sources.size(); ++source) {
    Matrix w(4, 192);
    for (std::size_t i = 0; i < w.size(); ++i) {
      w.data()[i] = static_cast<float>(sources[source](i));
    }
    for (unsigned bits = 2; bits <= 8; ++bits) {
      for (const bool symmetric : {false, true}) {
        for (const bool half : {false, true}) {
          const Case shape = {bits, symmetric, half, 4, 192, 48};
          const Matrix none = dequantize(quantize(w, Spec::parse(shape.spec()), {pool}), pool);
          const Matrix mse = dequantize(quantize(w, Spec::parse(shape.spec("mse")), {pool}), pool);
          for (std::size_t first = 0; first < w.size(); first += 48) {
            double before = 0, after = 0;
            for (std::size_t i = first; i < first + 48; ++i) {
              before += std::pow(static_cast<double>(none.data()[i]) - w.data()[i], 2);
              after += std::pow(static_cast<double>(mse.data()[i]) - w.data()[i], 2);
            }
            ASSERT_LE(after, before * (1 + 1e-4) + 1e-12)
                << shape.spec("mse") << " source " << source << " at " << first;
          }
        }
      }
    }
  }
}

TEST(Int, ReachesItsBandsOn64x64) {
  ThreadPool pool(2);
  struct Band {
    const char* spec;
    double low, high, nominal;
  };
  for (const Band& band :
       {Band{"int4:sym=0,g=64", 20.85, 21.1, 5.0},
        Band{"int4:sym=0,g=64,clip=mse", 21.6, 21.9, 5.0}, Band{"int4:sym=1,g=64", 19.2, 19.5, 4.5},
        Band{"int4:sym=0,g=64,scale=f16", 20.85, 21.1, 4.5}}) {
    const Spec spec = Spec::parse(band.spec);
    EXPECT_EQ(find_method("int4").nominal_bpw(spec, 64, 64), band.nominal);
    double sum = 0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const CounterRng rng(seed, "w");
      Matrix w(64, 64);
      for (std::size_t i = 0; i < w.size(); ++i) {
        w.data()[i] = 0.02f * static_cast<float>(rng.normal(i));
      }
      const Packed packed = quantize(w, spec, {pool, seed});
      EXPECT_EQ(packed.bpw(), band.nominal);
      sum += snr(w, dequantize(packed, pool));
    }
    EXPECT_GT(sum / 20, band.low) << band.spec;
    EXPECT_LT(sum / 20, band.high) << band.spec;
  }
}

TEST(Int, ReproducesConstantGroups) {
  ThreadPool pool(1);
  Matrix w(2, 10);
  std::fill_n(w.data(), 10, 0.3f);
  std::fill_n(w.data() + 10, 10, -7e10f);
  for (const char* spec : {"int4", "int2", "int8:clip=mse"}) {
    const Matrix decoded = dequantize(quantize(w, Spec::parse(spec), {pool}), pool);
    for (std::size_t i = 0; i < w.size(); ++i) EXPECT_EQ(decoded.data()[i], w.data()[i]) << spec;
  }
}

TEST(Int, SaysWhenAScaleLeavesTheRangeOfHalves) {
  ThreadPool pool(1);
  Matrix w(1, 4);
  w(0, 2) = 1e6f;
  EXPECT_THAT([&] { quantize(w, Spec::parse("int4:scale=f16,sym=1"), {pool}); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("use scale=f32")));
  EXPECT_NO_THROW(quantize(w, Spec::parse("int4:scale=f32,sym=1"), {pool}));
}

// Least squares may ask for a grid beyond f16 where the range itself is within.
TEST(Int, PassesOverGridsThatLeaveTheRangeOfHalves) {
  ThreadPool pool(1);
  Matrix w(40, 64);
  const CounterRng rng(1, "ends");
  for (std::size_t i = 0; i < w.size(); ++i) {
    w.data()[i] = rng.bits(i) % 3 == 0   ? 65500.0f * static_cast<float>(rng.uniform(i))
                  : rng.bits(i) % 2 == 0 ? 65500.0f
                                         : -65500.0f;
  }
  for (const std::string bits : {"2", "3", "4"}) {
    const auto error = [&](const char* clip) {
      const Spec spec = Spec::parse("int" + bits + ":scale=f16,clip=" + clip);
      const Matrix decoded = dequantize(quantize(w, spec, {pool}), pool);
      double sum = 0;
      for (std::size_t i = 0; i < w.size(); ++i) {
        sum += std::pow(double{w.data()[i]} - decoded.data()[i], 2);
      }
      return sum;
    };
    EXPECT_LE(error("mse"), error("none")) << bits;
  }
}

TEST(Int, RowsAreMatricesOfTheirOwn) {
  ThreadPool pool(2);
  for (const char* spec : {"int2:g=16", "int3:sym=0,g=0", "int4:g=32,scale=f16", "int8:sym=0"}) {
    const Packed packed = encode(gaussian(9, 80, 1), spec);
    ASSERT_TRUE(find_method(packed.spec.method()).rows_apart);
    const Matrix whole = dequantize(packed, pool);
    for (std::size_t i = 0; i < 9; ++i) {
      const Matrix row = dequantize(row_of(packed, i), pool);
      EXPECT_TRUE(std::ranges::equal(row.row(0), whole.view().row(i))) << spec << " " << i;
    }
  }
}

}  // namespace
}  // namespace squish::quant
