// Kernels, by spec, shape, instruction set and number of threads: `product` is the product alone,
// `token` what it takes in generation, with the input's rotation and rounding and the output's
// rotation, `prompt` 512 tokens at once (weights/s: of each token). Weights are Gaussian; one
// matrix each, so small ones are read from cache.
//   cmake --build --preset release --target kernel_bench
//   build/release/kernel_bench [--benchmark_filter=trellis:bits=2.*1536x576] [google-benchmark
//   flags]
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "squish/kernels/kernel.h"
#include "squish/model/linear.h"

namespace squish::kernels {
namespace {

struct Shape {
  std::size_t rows, cols;
};
constexpr Shape kShapes[] = {{1536, 576}, {4096, 4096}};
// Trellis codes differ in nothing that a kernel sees but for `fast` to take less time to make.
constexpr const char* kSpecs[] = {"trellis:bits=1,code=fast",
                                  "trellis:bits=2,code=fast",
                                  "trellis:bits=3,code=fast",
                                  "trellis:bits=4,code=fast",
                                  "trellis:bits=5,code=fast",
                                  "quip:bits=2",
                                  "quip:bits=3",
                                  "quip:bits=4",
                                  "int2:sym=0,g=64",
                                  "int3:sym=0,g=64",
                                  "int4:sym=0,g=64",
                                  "int4:sym=1,g=64",
                                  "int8:sym=0,g=64",
                                  "aqlm:m=2,b=8,g=8",
                                  "vptq:v=8,k=4096,r=256",
                                  "vptq:v=8,k=256,r=16"};

std::vector<float> gaussian(std::size_t n, const char* key) {
  const CounterRng rng(1, key);
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(rng.normal(i));
  return values;
}

const std::shared_ptr<const quant::Packed>& matrix(const std::string& spec, Shape shape) {
  static std::map<std::string, std::shared_ptr<const quant::Packed>> made;
  auto& packed = made[fmt::format("{} {} {}", spec, shape.rows, shape.cols)];
  if (packed == nullptr) {
    Matrix w(shape.rows, shape.cols);
    std::ranges::copy(gaussian(w.size(), "weights"), w.data());
    ThreadPool pool;
    packed = std::make_shared<const quant::Packed>(
        quant::quantize(w, quant::Spec::parse(spec), {pool, 1, "bench", nullptr}));
  }
  return packed;
}

enum class What { product, token, prompt };
constexpr What kWhat[] = {What::product, What::token, What::prompt};
constexpr const char* kNames[] = {"product", "token", "prompt"};
constexpr std::size_t kTokens = 512;

/// What is to be timed; `packed` and `pool` outlive it.
std::function<void()> body(const std::shared_ptr<const quant::Packed>& packed, What what,
                           ThreadPool& pool) {
  const auto y = std::make_shared<Matrix>(what == What::prompt ? kTokens : 1, packed->rows);
  if (what == What::prompt) {
    const std::shared_ptr<const model::Linear> layer = model::packed_linear(packed);
    const auto x = std::make_shared<Matrix>(kTokens, packed->cols);
    std::ranges::copy(gaussian(x->size(), "tokens"), x->data());
    return [=, &pool] { layer->apply(*x, *y, pool); };
  }
  const std::shared_ptr<const Kernel> kernel = make_kernel(packed);
  if (kernel == nullptr) return nullptr;
  const std::vector<float> x = gaussian(packed->cols, "input");
  if (what == What::token) {
    return [=, &pool] {
      const Product product{kernel.get(), y->row(0)};
      multiply({&product, 1}, x, pool);
    };
  }
  const auto input = std::make_shared<Input>();
  make_input(kernel->form(), x, kernel->fine(), *input);
  const auto tables = std::make_shared<Bytes>();
  const std::size_t run = kernel->run_rows(pool.size()), runs = (kernel->rows() + run - 1) / run;
  return [=, &pool] {
    kernel->tabulate(*input, *tables);
    pool.run(runs, [&](std::size_t i) {
      kernel->multiply(*input, *tables, i * run, std::min(kernel->rows(), (i + 1) * run),
                       y->data());
    });
  };
}

void measure(benchmark::State& state, const std::string& spec, Shape shape, Isa isa, int threads,
             What what) {
  set_isa(available_isas().back());
  const auto& packed = matrix(spec, shape);
  set_isa(isa);
  ThreadPool pool(threads);
  const auto timed = body(packed, what, pool);
  if (timed == nullptr) {
    state.SkipWithError("no kernel");
    return;
  }
  for (auto _ : state) {
    timed();
    benchmark::ClobberMemory();
  }
  const double tokens = what == What::prompt ? kTokens : 1;
  using benchmark::Counter;
  state.counters["weights/s"] = Counter(static_cast<double>(shape.rows * shape.cols) * tokens,
                                        Counter::kIsIterationInvariantRate);
  state.counters["bytes/s"] =
      Counter(static_cast<double>(packed->bits().total()) / 8, Counter::kIsIterationInvariantRate);
}

void register_all() {
  for (const Shape shape : kShapes) {
    for (const std::string spec : kSpecs) {
      // Learned codebooks take minutes on the larger one.
      if (shape.rows > 2000 && (spec.starts_with("aqlm") || spec.starts_with("vptq"))) continue;
      for (const Isa isa : available_isas()) {
        for (const int threads : {1, 2}) {
          for (const What what : kWhat) {
            const std::string name =
                fmt::format("{}/{}x{}/{}/{}/{}", spec, shape.rows, shape.cols, to_string(isa),
                            threads, kNames[static_cast<int>(what)]);
            benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
              measure(state, spec, shape, isa, threads, what);
            })->UseRealTime();
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace squish::kernels

int main(int argc, char** argv) {
  squish::kernels::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
