// The sections of a quantised matrix, any bytes changed: every instruction set decodes and
// multiplies it as the scalar definition does, or refuses it as that does. Input: which matrix,
// then what is added to its bytes.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "squish/base/isa.h"
#include "squish/kernels/kernel.h"
#include "squish/quant/quantizer.h"
#include "tests/fuzz/fuzz.h"

namespace squish {
namespace {

constexpr const char* kSpecs[] = {"int2",
                                  "int3:g=0,sym=1",
                                  "int4",
                                  "int4:g=128,scale=f16,clip=mse",
                                  "int5:g=7",
                                  "int6",
                                  "int7:scale=f16",
                                  "int8",
                                  "quip:bits=2",
                                  "quip:bits=3",
                                  "quip:bits=4",
                                  "quip:form=gain",
                                  "trellis:bits=1",
                                  "trellis:bits=2",
                                  "trellis:bits=3",
                                  "trellis:bits=4",
                                  "trellis:bits=2.5,code=fast",
                                  "trellis:bits=5,code=fast",
                                  "trellis:code=1mad",
                                  "trellis:code=3inst",
                                  "trellis:code=hyb",
                                  "trellis:form=tiles",
                                  "vptq:v=8,k=16,r=4",
                                  "vptq:v=3,k=8,r=1",
                                  "vptq:v=4,k=16,groups=2,outliers=10,ov=2,ok=4",
                                  "aqlm:m=2,b=4,g=8",
                                  "aqlm:m=1,b=8,g=3"};
constexpr std::pair<std::size_t, std::size_t> kShapes[] = {{1, 1}, {17, 40}, {33, 136}, {272, 72}};
constexpr float kSane = 1e15f;   // sums of larger ones may overflow in one order and not in another
constexpr float kTold = 1e-30f;  // what is smaller need not be told from 0

quant::Packed pack(std::size_t spec, std::size_t shape, ThreadPool& pool) {
  const auto [rows, cols] = kShapes[shape];
  Matrix weights(rows, cols);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights.data()[i] = 0.02f * std::sin(static_cast<float>(i * i % 7919));
  }
  return quant::quantize(weights, quant::Spec::parse(kSpecs[spec]), {pool});
}

struct Results {
  Matrix decoded;
  std::vector<float> product;  // empty: there is no kernel
};

std::optional<Results> results_of(const std::shared_ptr<const quant::Packed>& packed,
                                  ThreadPool& pool) {
  Results found{Matrix(packed->rows, packed->cols), {}};
  const bool accepted = fuzz::accepts([&] {
    quant::dequantize(*packed, found.decoded, pool);
    const auto kernel = kernels::make_kernel(packed);
    if (kernel == nullptr) return;
    std::vector<float> x(packed->cols);
    for (std::size_t j = 0; j < x.size(); ++j) x[j] = std::cos(static_cast<float>(3 * j));
    found.product.resize(packed->rows);
    const kernels::Product product{kernel.get(), found.product};
    kernels::multiply({&product, 1}, x, pool);
  });
  if (!accepted) return {};
  return found;
}

bool near(std::span<const float> a, std::span<const float> b, float size) {
  return std::ranges::equal(a, b,
                            [&](float x, float y) { return std::abs(x - y) <= 1e-4f * size; });
}

}  // namespace
}  // namespace squish

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  static ThreadPool pool(1);
  static std::map<std::pair<std::size_t, std::size_t>, quant::Packed> made;
  if (size < 2) return 0;
  const std::size_t spec = data[0] % std::size(kSpecs), shape = data[1] % std::size(kShapes);
  auto at = made.find({spec, shape});
  if (at == made.end()) at = made.emplace(std::pair{spec, shape}, pack(spec, shape, pool)).first;
  quant::Packed changed = at->second;
  for (std::size_t section = 0, next = 2; section < changed.sections.size(); ++section) {
    const std::span<const std::byte> old(changed.sections[section].bytes);
    Bytes bytes(old.begin(), old.end());
    for (std::size_t i = 0; i < bytes.size() && next < size; ++i)
      bytes[i] ^= std::byte{data[next++]};
    changed.sections[section].bytes = SharedBytes(std::move(bytes));
  }
  const auto packed = std::make_shared<const quant::Packed>(std::move(changed));
  std::optional<Results> scalar;
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    const std::optional<Results> own = results_of(packed, pool);
    if (isa == Isa::scalar) {
      scalar = own;
      continue;
    }
    fuzz::require(own.has_value() == scalar.has_value(), "what one refuses, all refuse");
    if (!own) continue;
    const auto values = std::span(scalar->decoded.data(), scalar->decoded.size());
    float largest = kTold;
    bool is_sane = true;
    for (const float value : values) {
      is_sane = is_sane && std::abs(value) < kSane;
      largest = std::max(largest, std::abs(value));
    }
    if (!is_sane) continue;
    fuzz::require(near(values, {own->decoded.data(), own->decoded.size()}, largest),
                  "the same weights");
    fuzz::require(near(scalar->product, own->product, largest * static_cast<float>(packed->cols)),
                  "the same product");
  }
  return 0;
}
