#include "squish/model/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "tests/kernels/forced_panels.h"

namespace squish::model {
namespace {

Matrix random_matrix(std::size_t rows, std::size_t cols, std::uint64_t seed) {
  const CounterRng rng(seed, "linear_test");
  Matrix m(rows, cols);
  for (std::size_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(rng.normal(i));
  return m;
}

void expect_product(ConstMatrixView x, ConstMatrixView w, ConstMatrixView y) {
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t i = 0; i < w.rows; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < w.cols; ++j) sum += static_cast<double>(x(t, j)) * w(i, j);
      ASSERT_NEAR(y(t, i), sum, 4e-6 * std::sqrt(static_cast<double>(w.cols))) << t << ' ' << i;
    }
  }
}

// The first has several chunks of rows; the others are ragged.
constexpr std::size_t kShapes[][2] = {{500, 576}, {1, 1}, {7, 33}, {130, 5}};

TEST(DenseLinear, MultipliesOneTokenAndSeveral) {
  ThreadPool pool(2);
  for (const auto [rows, cols] : kShapes) {
    const auto weights = std::make_shared<const Matrix>(random_matrix(rows, cols, 1));
    const auto linear = dense_linear(weights);
    EXPECT_EQ(linear->rows(), rows);
    EXPECT_EQ(linear->cols(), cols);
    EXPECT_EQ(linear->weight_bytes(), rows * cols * 4);
    for (const std::size_t tokens : {1, 2, 19}) {
      const Matrix x = random_matrix(tokens, cols, 2);
      Matrix y(tokens, rows);
      linear->apply(x, y, pool);
      expect_product(x, *weights, y);
    }
  }
}

TEST(DenseLinear, SameBitsForEveryNumberOfThreads) {
  const auto linear = dense_linear(std::make_shared<const Matrix>(random_matrix(901, 320, 1)));
  for (const std::size_t tokens : {1, 40}) {
    const Matrix x = random_matrix(tokens, 320, 2);
    Matrix first(tokens, 901);
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      Matrix y(tokens, 901);
      linear->apply(x, threads == 1 ? first : y, pool);
      if (threads == 1) continue;
      for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y.data()[i], first.data()[i]);
    }
  }
}

TEST(PackedLinear, MultipliesByWhatTheMethodDecodes) {
  ThreadPool pool(2);
  const quant::Spec spec = quant::Spec::parse("int4:sym=0,g=64");
  // The second is smaller than the first: they share the buffer that they are decoded into.
  for (const auto [rows, cols] : kShapes) {
    const auto packed = std::make_shared<const quant::Packed>(
        quant::quantize(random_matrix(rows, cols, 1), spec, {.pool = pool}));
    const auto linear = packed_linear(packed, 0);
    EXPECT_EQ(linear->rows(), rows);
    EXPECT_EQ(linear->cols(), cols);
    EXPECT_EQ(8 * linear->weight_bytes(), packed->bits().total());
    for (const std::size_t tokens : {1, 12}) {
      const Matrix x = random_matrix(tokens, cols, 2);
      Matrix y(tokens, rows);
      linear->apply(x, y, pool);
      expect_product(x, quant::dequantize(*packed, pool), y);
    }
  }
}

/// Of a product whose input may have been rounded.
void expect_close(ConstMatrixView x, ConstMatrixView w, ConstMatrixView y, double tolerance) {
  for (std::size_t t = 0; t < x.rows; ++t) {
    double error = 0, size = 0;
    for (std::size_t i = 0; i < w.rows; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < w.cols; ++j) sum += static_cast<double>(x(t, j)) * w(i, j);
      error += (y(t, i) - sum) * (y(t, i) - sum);
      size += sum * sum;
    }
    ASSERT_LT(error, tolerance * tolerance * size) << x.rows << " tokens, " << t;
  }
}

TEST(PackedLinear, TakesAnyNumberOfTokensByWhateverPath) {
  ThreadPool pool(2);
  const auto pack = [&](std::size_t rows, const char* spec) {
    return std::make_shared<const quant::Packed>(
        quant::quantize(random_matrix(rows, 70, rows), quant::Spec::parse(spec), {.pool = pool}));
  };
  for (const char* spec : {"trellis:bits=3,code=fast", "quip:bits=4", "int4", "vptq:v=6,k=16,r=16",
                           "vptq:v=6,k=512,r=16"}) {
    const auto first = pack(300, spec), second = pack(77, spec);
    const auto a = packed_linear(first), b = packed_linear(second);
    const Matrix wa = quant::dequantize(*first, pool), wb = quant::dequantize(*second, pool);
    EXPECT_FALSE(a->decodes(kFewTokens));
    const std::string& method = first->spec.method();
    const bool by_tables =
        method == "vptq" && first->spec.integer("k") <= 256 && active_isa() == Isa::avx512vbmi;
    EXPECT_EQ(a->decodes(kFewTokens + 1), method != "vptq" || by_tables);
    EXPECT_EQ(a->decodes(70), method != "vptq" || by_tables);
    EXPECT_EQ(a->decodes(71), method == "int4" || by_tables);  // not rotated
    for (const std::size_t tokens :
         {std::size_t{1}, kFewTokens, kFewTokens + 1, std::size_t{70}, std::size_t{71}}) {
      const Matrix x = random_matrix(tokens, 70, 2);
      const Linear* const layers[] = {a.get(), b.get()};
      for (const auto path : kernels::available_panel_paths()) {
        const kernels::ForcedPanels forced(path);
        Matrix ya(tokens, 300), yb(tokens, 77);
        const MatrixView outputs[] = {ya, yb};
        apply_all(layers, x, outputs, pool);
        const double tolerance = path == kernels::PanelPath::f32 ? 1e-4 : 1e-2;
        expect_close(x, wa, ya, tolerance);
        expect_close(x, wb, yb, tolerance);
      }
    }
  }
}

}  // namespace
}  // namespace squish::model
