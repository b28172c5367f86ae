#include "squish/kernels/half.h"

#include <utility>

#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "squish/kernels/half.isa.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(HalfOps, kHalfOps);

const HalfOps& half_ops() {
  return choose(scalar::kHalfOps, avx2::kHalfOps, avx512::kHalfOps, avx512vbmi::kHalfOps);
}

namespace {

class HalfKernel : public Kernel {
 public:
  HalfKernel(std::shared_ptr<const void> owner, const std::byte* values, std::size_t rows,
             std::size_t cols, Element element)
      : Kernel(rows, {.cols = cols, .floats = true}, kRows),
        owner_(std::move(owner)),
        values_(values),
        row_bytes_(cols * element_bytes(element)),
        multiply_(element == Element::f32   ? half_ops().f32
                  : element == Element::f16 ? half_ops().f16
                                            : half_ops().bf16),
        widen_(element == Element::f32   ? half_ops().copy
               : element == Element::f16 ? half_ops().widen_f16
                                         : half_ops().widen_bf16) {}

  void multiply(const Input& x, const Bytes& /*tables*/, std::size_t begin, std::size_t end,
                float* y) const override {
    multiply_(values_, form().cols, x.x.data(), begin, end, y);
  }

  bool decodes() const override { return true; }
  void decode(std::size_t begin, std::size_t end, float* rows) const override {
    widen_(values_ + begin * row_bytes_, (end - begin) * form().cols, rows);
  }

 private:
  std::shared_ptr<const void> owner_;
  const std::byte* values_;
  std::size_t row_bytes_;
  HalfOps::Multiply multiply_;
  HalfOps::Widen widen_;
};

}  // namespace

std::unique_ptr<const Kernel> half_kernel(std::shared_ptr<const void> owner,
                                          std::span<const std::byte> values, std::size_t rows,
                                          std::size_t cols, Element element) {
  const std::size_t bytes = element_bytes(element);
  if (values.size() != rows * cols * bytes) {
    fail("a matrix of {} x {} values of {} bytes has {} bytes", rows, cols, bytes, values.size());
  }
  return std::make_unique<HalfKernel>(std::move(owner), values.data(), rows, cols, element);
}

}  // namespace squish::kernels
