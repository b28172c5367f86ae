// What is allocated for one token: nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>

#include "squish/base/random.h"
#include "squish/model/sampler.h"
#include "squish/model/transformer.h"
#include "tests/evaluate/tiny_model.h"

namespace {

std::atomic<std::size_t> allocations = 0;

void* counted(void* p) {
  ++allocations;
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

// Inlined, new and free() would look to the compiler as if they did not belong together.
[[gnu::noinline]] void* operator new(std::size_t size) { return counted(std::malloc(size)); }
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto a = static_cast<std::size_t>(alignment);
  return counted(std::aligned_alloc(a, (size + a - 1) / a * a));
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace squish::model {
namespace {

// Greedy, from all, and from the likeliest.
TEST(Allocations, NoneForATokenOfAModel) {
  const test::TinyModel tiny;
  const io::ModelFiles files = io::open_model(tiny.path());
  ThreadPool pool(2);
  const Transformer model = load_transformer(files, pool);
  for (const auto& [kv, options] :
       {std::pair{KvElement::f32, SamplerOptions{}},
        {KvElement::f16, {.temperature = 1}},
        {KvElement::int8, {.temperature = 0.7f, .top_k = 20, .top_p = 0.9f}}}) {
    KvCache cache(model.config, 80, kv);
    Generator generator(model, cache, pool);
    Matrix out(1, model.config.vocab);
    Sampler sampler(options);
    TokenId token = 1;
    const auto generate = [&](std::size_t tokens) {
      for (std::size_t i = 0; i < tokens; ++i) {
        logits(model, generator.next(token), out, pool);
        token = sampler.pick(out.row(0));
      }
    };
    generate(70);  // up to the second chunk of keys
    const std::size_t before = allocations;
    generate(10);
    EXPECT_EQ(allocations, before) << static_cast<int>(kv);
  }
}

TEST(Allocations, NoneForAProductOfAnyMethod) {
  ThreadPool pool(2);
  const CounterRng rng(1, "allocation_test");
  Matrix weights(96, 128), x(1, 128), y(1, 96);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights.data()[i] = static_cast<float>(rng.normal(i));
  }
  std::copy_n(weights.data(), 128, x.data());
  for (const char* spec :
       {"int4:sym=0,g=64", "int2:g=32", "vptq:v=4,k=16,r=4", "aqlm:m=2,b=8,g=8", "quip:bits=2",
        "quip:bits=3", "trellis:bits=2,code=fast", "trellis:bits=4"}) {
    const auto packed = std::make_shared<const quant::Packed>(
        quant::quantize(weights, quant::Spec::parse(spec), {.pool = pool}));
    const auto linear = packed_linear(packed, kFewTokens);
    const Linear* const layers[] = {linear.get()};
    const MatrixView outputs[] = {y};
    apply_all(layers, x, outputs, pool);
    apply_all(layers, x, outputs, pool);
    const std::size_t before = allocations;
    apply_all(layers, x, outputs, pool);
    EXPECT_EQ(allocations, before) << spec;
  }
}

}  // namespace
}  // namespace squish::model
