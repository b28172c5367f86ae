#include "squish/kernels/kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "squish/quant/quantizer.h"
#include "tests/kernels/forced_panels.h"

namespace squish::kernels {
namespace {

struct Case {
  const char* spec;
  std::size_t rows, cols;
};

std::shared_ptr<const quant::Packed> packed(const Case& c) {
  const CounterRng rng(5, "weights");
  Matrix w(c.rows, c.cols);
  for (std::size_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(rng.normal(i));
  ThreadPool pool(2);
  return std::make_shared<const quant::Packed>(
      quant::quantize(w, quant::Spec::parse(c.spec), {pool, 1, "t", nullptr}));
}

std::vector<float> activations(std::size_t n, std::uint64_t seed) {
  const CounterRng rng(seed, "input");
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(rng.normal(i));
  x[n / 2] = 9;  // they have outliers
  return x;
}

std::vector<float> product(const quant::Packed& matrix, std::span<const float> x, int threads) {
  const auto kernel = make_kernel(std::make_shared<const quant::Packed>(matrix));
  std::vector<float> y(matrix.rows, std::nanf(""));
  ThreadPool pool(threads);
  const Product one{kernel.get(), y};
  multiply({&one, 1}, x, pool);
  return y;
}

/// What the kernel makes of x, back in the order and units of x.
std::vector<float> rounded(const Kernel& kernel, std::span<const float> x) {
  const InputForm& form = kernel.form();
  Input input;
  make_input(form, x, kernel.fine(), input);
  std::vector<float> back(form.cols);
  for (std::size_t j = 0; j < form.cols; ++j) {
    const float rest =
        kernel.fine() ? std::ldexp(static_cast<float>(input.rest[j]), -kRestBits) : 0;
    back[j] = form.floats ? input.x[j]
                          : input.scale[j / kBlock] * (static_cast<float>(input.q[j]) + rest);
  }
  if (form.rotation != nullptr) form.rotation->hadamard.unrotate(back, form.rotation->factors);
  return back;
}

double rms(std::span<const float> v) {
  double sum = 0;
  for (const float e : v) sum += double{e} * e;
  return std::sqrt(sum / static_cast<double>(v.size()));
}

std::vector<double> dense(const quant::Packed& matrix, std::span<const float> x) {
  ThreadPool pool(2);
  const Matrix w = quant::dequantize(matrix, pool);
  std::vector<double> y(matrix.rows);
  for (std::size_t i = 0; i < matrix.rows; ++i) {
    for (std::size_t j = 0; j < matrix.cols; ++j) y[i] += double{w(i, j)} * x[j];
  }
  return y;
}

/// Where AQLM and VPTQ look up tables, and decode.
bool goes_by_tables(const quant::Spec& spec) {
  if (active_isa() != Isa::avx512vbmi) return false;
  // Sums of many books in long groups would be too coarse.
  if (spec.method() == "aqlm")
    return spec.integer("b") == 8 && spec.integer("m") * spec.integer("g") <= 24;
  return spec.method() == "vptq" && spec.integer("k") <= 256 && spec.integer("r") <= 256 &&
         spec.integer("groups") == 1 && spec.real("outliers") == 0;
}

class Kernels : public testing::TestWithParam<Case> {};

TEST_P(Kernels, MultiplyTheDecodedMatrixByTheRoundedInput) {
  const auto matrix = packed(GetParam());
  const auto kernel = make_kernel(matrix);
  ASSERT_NE(kernel, nullptr);
  const std::vector<float> x = activations(matrix->cols, 1);
  const std::vector<float> y = product(*matrix, x, 1);
  const std::vector<double> expected = dense(*matrix, rounded(*kernel, x));
  const double unit = rms(y);
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], expected[i], 1e-3 * unit) << i;
}

TEST_P(Kernels, RoundInputsToLittleHarm) {
  const auto matrix = packed(GetParam());
  const std::vector<float> x = activations(matrix->cols, 2);
  const std::vector<float> y = product(*matrix, x, 1);
  const std::vector<double> expected = dense(*matrix, x);
  double error = 0;
  for (std::size_t i = 0; i < y.size(); ++i) error += std::pow(y[i] - expected[i], 2);
  const auto kernel = make_kernel(matrix);
  const double limit = kernel->fine() || kernel->form().floats ? 1e-4 : 0.02;
  EXPECT_LT(std::sqrt(error / static_cast<double>(y.size())), limit * rms(y));
}

TEST_P(Kernels, AgreeOnAllInstructionSetsAndNumbersOfThreads) {
  const auto matrix = packed(GetParam());
  const std::vector<float> x = activations(matrix->cols, 3);
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    const std::vector<float> one = product(*matrix, x, 1);
    EXPECT_EQ(product(*matrix, x, 2), one) << to_string(isa);
    EXPECT_EQ(product(*matrix, x, 4), one) << to_string(isa);
    set_isa(before);
    const std::vector<float> best = product(*matrix, x, 1);
    // Rotations are of floats.
    for (std::size_t i = 0; i < one.size(); ++i) {
      ASSERT_NEAR(one[i], best[i], 1e-3 * rms(best)) << to_string(isa);
    }
  }
}

TEST_P(Kernels, MultiplyManyTokensWhereTheyDecode) {
  const auto matrix = packed(GetParam());
  constexpr std::size_t kTokens = 37;
  Matrix x(kTokens, matrix->cols);
  for (std::size_t t = 0; t < kTokens; ++t) {
    std::ranges::copy(activations(matrix->cols, t), x.row(t).data());
  }
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    const auto kernel = make_kernel(matrix);
    if (!kernel->decodes()) continue;
    for (const PanelPath path : available_panel_paths()) {
      const ForcedPanels forced(path);
      Matrix y(kTokens, matrix->rows), again(kTokens, matrix->rows);
      ThreadPool one(1), four(4);
      const PanelProduct product{kernel.get(), y}, repeated{kernel.get(), again};
      multiply({&product, 1}, x, one);
      multiply({&repeated, 1}, x, four);
      for (std::size_t t = 0; t < kTokens; ++t) {
        const std::vector<double> expected = dense(*matrix, x.row(t));
        // A product of two numbers of 8 bits is off by 0.002 of itself at the usual, 0.008 at most;
        // those of few rows may cancel.
        const double off =
            path == PanelPath::f32 ? 1e-4 * rms(y.row(t)) : 2e-2 * rms({y.data(), y.size()});
        for (std::size_t i = 0; i < matrix->rows; ++i) {
          ASSERT_NEAR(y(t, i), expected[i], off)
              << to_string(isa) << ' ' << to_string(path) << ' ' << t << ' ' << i;
          ASSERT_EQ(again(t, i), y(t, i));
        }
      }
    }
  }
  set_isa(before);
  const std::string& method = matrix->spec.method();
  EXPECT_EQ(make_kernel(matrix)->decodes(),
            (method != "aqlm" && method != "vptq") || goes_by_tables(matrix->spec));
}

TEST_P(Kernels, TakeInputsOfZeros) {
  const auto matrix = packed(GetParam());
  const std::vector<float> x(matrix->cols);
  for (const float y : product(*matrix, x, 1)) EXPECT_EQ(y, 0);
}

TEST_P(Kernels, LetNothingPassThatIsNotFinite) {
  const auto matrix = packed(GetParam());
  for (const float bad : {std::nanf(""), INFINITY}) {
    std::vector<float> x = activations(matrix->cols, 5);
    x[0] = bad;
    const std::vector<float> y = product(*matrix, x, 1);
    EXPECT_TRUE(std::any_of(y.begin(), y.end(), [](float v) { return !std::isfinite(v); }));
  }
}

constexpr Case kCases[] = {{"trellis:code=fast", 96, 192},
                           {"trellis", 24, 64},
                           {"trellis:bits=1,code=fast", 400, 130},
                           {"trellis:bits=3,code=fast", 400, 64},
                           {"trellis:bits=4,code=fast", 75, 100},
                           {"trellis:bits=2.5,code=fast", 777, 200},
                           {"trellis:bits=3.999,code=fast", 64, 130},
                           {"trellis:bits=4.5,code=fast", 200, 150},
                           {"trellis:bits=5,code=fast", 3, 5},
                           {"trellis:bits=8,code=fast", 130, 448},
                           {"int2:sym=0,scale=f16", 75, 576},
                           {"int3:sym=1,scale=f16", 75, 576},
                           {"int4:sym=0,scale=f16", 75, 576},
                           {"int5:sym=1", 9, 576},
                           {"int6:sym=0", 10, 576},
                           {"int7:sym=1,scale=f16", 11, 576},
                           {"int8:sym=1,scale=f16", 75, 576},
                           {"int2:sym=1,g=128", 33, 1600},
                           {"int4:sym=1,g=128,scale=f16", 33, 1600},
                           {"int5:sym=0,g=192,scale=f16", 33, 1600},
                           {"int7:sym=0,g=0", 5, 130},
                           {"int8:sym=0,g=0", 5, 100},
                           {"int3:sym=1,g=0,scale=f16", 6, 2100},
                           {"int2:sym=0,g=16,scale=f16", 13, 130},
                           {"int3:sym=0,g=32", 13, 130},
                           {"int3:sym=1,g=4", 14, 100},
                           {"int4:sym=1,g=16", 13, 100},
                           {"int4:sym=0,g=32,scale=f16", 75, 576},
                           {"int4:sym=0,g=48", 13, 1000},
                           {"int5:sym=0,g=48,scale=f16", 13, 130},
                           {"int6:sym=1,g=20", 13, 100},
                           {"int6:sym=0,g=100", 13, 300},
                           {"int7:sym=1,g=32", 3, 100},
                           {"int8:sym=0,g=16,scale=f16", 75, 576},
                           {"int8:sym=1,g=48", 7, 130},
                           {"int2:sym=1,g=8", 14, 130},
                           {"int2:sym=0,g=1", 4, 70},
                           {"int4:sym=0,g=50", 13, 130},
                           {"int5:sym=1,g=3,scale=f16", 6, 65},
                           {"int8:sym=0,g=7", 6, 100},
                           {"int4", 1, 1},
                           {"int3:g=5", 2, 3},
                           {"quip", 96, 576},
                           {"quip", 33, 100},
                           {"quip:bits=3", 51, 130},
                           {"quip:bits=3", 64, 256},
                           {"quip:bits=4", 25, 330},
                           {"quip:bits=4", 3, 5},
                           {"aqlm", 96, 192},
                           {"aqlm:m=1,b=3,g=5", 37, 101},
                           {"aqlm:m=2,b=4,g=4", 64, 130},
                           {"aqlm:m=3,b=7,g=16,iters=2", 21, 100},
                           {"aqlm:m=5,b=8,g=20,iters=2,rounds=1", 30, 330},
                           {"aqlm:m=1,b=8,g=3,iters=2,rounds=1", 200, 70},
                           {"aqlm:m=3,b=8,g=8,iters=2,rounds=1", 64, 8},
                           {"aqlm:m=1,b=12,g=8,iters=1,rounds=0", 130, 320},
                           {"vptq", 96, 192},
                           {"vptq:v=6,k=4096,r=1,iters=1,refine=0", 100, 130},
                           {"vptq:v=8,k=256,r=256,iters=2,refine=0", 300, 130},
                           {"vptq:v=8,k=256,r=16,iters=2,refine=0", 136, 192},
                           {"vptq:v=4,k=256,r=1,iters=2,refine=0", 77, 66},
                           {"vptq:v=5,k=16,r=8", 33, 100},
                           {"vptq:v=16,k=32,r=4", 75, 5},
                           {"vptq:v=8,k=2048,r=2048,iters=1,refine=0", 33, 600},
                           {"vptq:v=6,k=32,r=4,groups=3", 44, 101},
                           {"vptq:v=12,k=64,r=16,groups=2,outliers=4,ov=4,ok=32", 61, 130},
                           {"vptq:v=8,k=16,r=1,outliers=50,ov=3,ok=8", 7, 5}};

INSTANTIATE_TEST_SUITE_P(Methods, Kernels, testing::ValuesIn(kCases),
                         [](const auto& one) { return "Case" + std::to_string(one.index); });

TEST(KernelGroups, ShareWhatTheyCan) {
  const auto a = packed({"trellis:code=fast", 96, 192}), b = packed({"trellis:bits=3", 40, 192});
  const auto x = activations(192, 4);
  const auto first = make_kernel(a), second = make_kernel(b);
  std::vector<float> ya(96), yb(40);
  const Product both[] = {{first.get(), ya}, {second.get(), yb}};
  ThreadPool pool(2);
  multiply(both, x, pool);
  EXPECT_EQ(ya, product(*a, x, 1));
  EXPECT_EQ(yb, product(*b, x, 1));
}

TEST(KernelGroups, AreNoneForCodesThatHaveNone) {
  EXPECT_EQ(make_kernel(packed({"trellis:code=1mad", 32, 32})), nullptr);
  EXPECT_EQ(make_kernel(packed({"trellis:code=fast,form=tiles", 32, 32})), nullptr);
  EXPECT_EQ(make_kernel(packed({"quip:form=gain", 32, 32})), nullptr);
}

}  // namespace
}  // namespace squish::kernels
