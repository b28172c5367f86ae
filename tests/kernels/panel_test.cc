#include "squish/kernels/panel.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>

#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "tests/kernels/forced_panels.h"

namespace squish::kernels {
namespace {

Matrix random(std::size_t rows, std::size_t cols, const char* name) {
  const CounterRng rng(3, name);
  Matrix m(rows, cols);
  for (std::size_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(rng.normal(i));
  return m;
}

/// To nearest, ties to even.
float to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
}

struct Shape {
  std::size_t tokens, rows, cols;
};

class Panels : public testing::TestWithParam<Shape> {};

TEST_P(Panels, AreProductsOfWhatTheirPathRoundsTo) {
  const auto [tokens, rows, cols] = GetParam();
  const Matrix w = random(rows, cols, "w"), x = random(tokens, cols, "x");
  for (const PanelPath path : available_panel_paths()) {
    const ForcedPanels forced(path);
    Matrix y(tokens, rows);
    for (std::size_t i = 0; i < y.size(); ++i) y.data()[i] = std::nanf("");
    ThreadPool pool(2);
    multiply(x, w, y, pool);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t i = 0; i < rows; ++i) {
        double sum = 0;
        for (std::size_t j = 0; j < cols; ++j) {
          sum += path == PanelPath::f32 ? double{x(t, j)} * w(i, j)
                                        : double{to_bf16(x(t, j))} * to_bf16(w(i, j));
        }
        ASSERT_NEAR(y(t, i), sum, 2e-6 * static_cast<double>(cols) + 1e-5)
            << to_string(path) << ' ' << t << ' ' << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Panels,
                         testing::Values(Shape{1, 1, 1}, Shape{2, 16, 32}, Shape{16, 15, 33},
                                         Shape{33, 100, 64}, Shape{40, 97, 31}, Shape{8, 33, 130},
                                         Shape{65, 200, 576}),
                         [](const auto& i) {
                           return std::to_string(i.param.tokens) + "x" +
                                  std::to_string(i.param.rows) + "x" + std::to_string(i.param.cols);
                         });

TEST(PanelPaths, AreThoseOfTheInstructionSet) {
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    EXPECT_EQ(panel_path(), available_panel_paths().back());
    if (isa != Isa::avx512vbmi) {
      EXPECT_EQ(panel_path(), PanelPath::f32);
    }
  }
  set_isa(before);
  for (const PanelPath path : available_panel_paths()) {
    const ForcedPanels forced(path);
    EXPECT_EQ(panel_path(), path);
  }
}

TEST(PanelPaths, RefuseWhatIsNone) {
  const ForcedPanels forced("f64");
  EXPECT_THROW(panel_path(), UsageError);
}

}  // namespace
}  // namespace squish::kernels
