// Products with matrices of AQLM (squish/quant/aqlm.cc): a line is a row, a step a group, whose
// entries meet as many elements of x.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "squish/base/half.h"
#include "squish/kernels/additive.h"
#include "squish/kernels/methods.h"
#include "squish/quant/aqlm_layout.h"

namespace squish::kernels {
namespace {

class AqlmKernel : public Kernel {
 public:
  AqlmKernel(std::shared_ptr<const quant::Packed> packed, const quant::AqlmLayout& layout,
             AdditiveBooks books)
      : Kernel(layout.rows, {.cols = layout.cols, .floats = true}, books.lines()),
        packed_(std::move(packed)),
        books_(std::move(books)),
        dim_(layout.dim) {
    part_.bytes = layout.rows * layout.row_bytes();
    part_.codes = reinterpret_cast<const std::uint8_t*>(packed_->section("q", part_.bytes).data());
    part_.line_bytes = layout.row_bytes();
    part_.steps = layout.blocks();
    part_.code_bits = static_cast<unsigned>(layout.books) * layout.bits;
    books_.set(part_);
    for (unsigned b = 0; b < part_.books; ++b) {
      part_.book[b].first_bit = b * layout.bits;
      part_.book[b].bits = layout.bits;
    }
    const std::span<const std::byte> scale = packed_->section("scale", 2 * layout.rows);
    float gain = 0;
    std::memcpy(&gain, packed_->section("gain", 4).data(), 4);
    for (std::size_t row = 0; row < layout.rows; ++row) {
      std::uint16_t half = 0;
      std::memcpy(&half, scale.data() + 2 * row, 2);
      scales_.push_back(gain * from_f16(half));
    }
  }

  /// Groups padded as entries are.
  void tabulate(const Input& x, Bytes& tables) const override {
    const std::size_t padded = books_.vectors() * kEntryLanes;
    tables.assign(4 * part_.steps * padded, std::byte{0});
    for (std::size_t g = 0; g < part_.steps; ++g) {
      const std::size_t count = std::min(dim_, form().cols - g * dim_);
      std::memcpy(tables.data() + 4 * g * padded, x.x.data() + g * dim_, 4 * count);
    }
  }

  void multiply(const Input& /*x*/, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    AdditivePart part = part_;
    part.x = reinterpret_cast<const float*>(tables.data());
    const std::size_t padded = books_.vectors() * kEntryLanes;
    thread_local AlignedVector<float> sums;
    sums.resize((end - begin) * padded);
    books_.multiply(part, false, begin, end, sums.data());
    for (std::size_t i = begin; i < end; ++i) {
      float sum = 0;
      for (std::size_t d = 0; d < padded; ++d) sum += sums[(i - begin) * padded + d];
      y[i] = scales_[i] * sum;
    }
  }

 private:
  std::shared_ptr<const quant::Packed> packed_;
  AdditiveBooks books_;
  std::size_t dim_;
  AdditivePart part_{};
  std::vector<float> scales_;
};

}  // namespace

std::unique_ptr<const Kernel> aqlm_kernel(std::shared_ptr<const quant::Packed> packed) {
  const quant::AqlmLayout layout(packed->spec, packed->rows, packed->cols);
  const std::vector<std::size_t> sizes(layout.books, layout.entries());
  AdditiveBooks books(packed->section("codebook", layout.books * layout.book_bytes()), layout.dim,
                      sizes);
  return std::make_unique<AqlmKernel>(std::move(packed), layout, std::move(books));
}

}  // namespace squish::kernels
