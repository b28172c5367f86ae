// Products with matrices of VPTQ (squish/quant/vptq.cc): a line is a block of rows, a step a
// column, whose entry meets one element of x, times the column's scale.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "squish/kernels/additive.h"
#include "squish/kernels/methods.h"
#include "squish/quant/vptq_layout.h"

namespace squish::kernels {
namespace {

class VptqKernel : public Kernel {
 public:
  VptqKernel(std::shared_ptr<const quant::Packed> packed, const quant::VptqLayout& layout,
             AdditiveBooks books)
      : Kernel(layout.rows, {.cols = layout.cols, .floats = true}, books.lines() * layout.dim),
        packed_(std::move(packed)),
        books_(std::move(books)),
        dim_(layout.dim),
        scales_(layout.cols) {
    part_.bytes = layout.blocks() * layout.block_bytes();
    part_.codes = reinterpret_cast<const std::uint8_t*>(packed_->section("q", part_.bytes).data());
    part_.line_bytes = layout.block_bytes();
    part_.steps = layout.cols;
    part_.code_bits = layout.code_bits();
    books_.set(part_);
    part_.book[0].bits = layout.main_bits;
    part_.book[1].first_bit = layout.main_bits;
    part_.book[1].bits = layout.residual_bits;
    std::memcpy(scales_.data(), packed_->section("scale", 4 * layout.cols).data(), 4 * layout.cols);
  }

  /// Elements of x times their columns' scales.
  void tabulate(const Input& x, Bytes& tables) const override {
    tables.resize(4 * scales_.size());
    auto* const scaled = reinterpret_cast<float*>(tables.data());
    for (std::size_t j = 0; j < scales_.size(); ++j) scaled[j] = scales_[j] * x.x[j];
  }

  void multiply(const Input& /*x*/, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    AdditivePart part = part_;
    part.x = reinterpret_cast<const float*>(tables.data());
    const std::size_t first = begin / dim_, last = (end + dim_ - 1) / dim_;
    const std::size_t padded = books_.vectors() * kEntryLanes;
    thread_local AlignedVector<float> sums;
    sums.resize((last - first) * padded);
    books_.multiply(part, true, first, last, sums.data());
    for (std::size_t b = first; b < last; ++b) {
      std::copy_n(sums.begin() + static_cast<std::ptrdiff_t>((b - first) * padded),
                  std::min(dim_, end - b * dim_), y + b * dim_);
    }
  }

 private:
  std::shared_ptr<const quant::Packed> packed_;
  AdditiveBooks books_;
  std::size_t dim_;
  std::vector<float> scales_;
  AdditivePart part_{};
};

}  // namespace

std::unique_ptr<const Kernel> vptq_kernel(std::shared_ptr<const quant::Packed> packed) {
  const quant::VptqLayout layout(packed->spec, packed->rows, packed->cols);
  std::vector<std::size_t> sizes = {layout.main};
  if (layout.residual > 1) sizes.push_back(layout.residual);
  AdditiveBooks books(packed->section("codebook", layout.book_bytes()), layout.dim, sizes);
  return std::make_unique<VptqKernel>(std::move(packed), layout, std::move(books));
}

}  // namespace squish::kernels
