// Products with matrices of VPTQ (squish/quant/vptq.cc): a line is a block of rows, a step a
// column, whose entry meets one element of x, times the column's scale. Parts with codebooks of
// their own are multiplied one after the other.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "squish/kernels/additive.h"
#include "squish/kernels/methods.h"
#include "squish/quant/vptq_layout.h"

namespace squish::kernels {
namespace {

/// Columns with codebooks of their own.
struct Columns {
  AdditiveBooks books;
  std::size_t dim;
  AdditivePart part{};
};

class VptqKernel : public Kernel {
 public:
  VptqKernel(std::shared_ptr<const quant::Packed> packed, const quant::VptqLayout& layout,
             std::vector<Columns> parts, std::size_t row_step)
      : Kernel(layout.rows, {.cols = layout.cols, .floats = true}, row_step),
        packed_(std::move(packed)),
        parts_(std::move(parts)) {
    const auto* const q = packed_->section("q", layout.code_bytes).data();
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      const quant::VptqPart& from = layout.parts[p];
      AdditivePart& part = parts_[p].part;
      part.bytes = from.code_bytes();
      part.codes = reinterpret_cast<const std::uint8_t*>(q + from.codes_at);
      part.line_bytes = from.block_bytes();
      part.steps = from.cols;
      part.code_bits = from.code_bits();
      parts_[p].books.set(part);
      part.book[0].bits = from.main_bits;
      part.book[1].first_bit = from.main_bits;
      part.book[1].bits = from.residual_bits;
    }
    const std::span<const std::byte> scale = packed_->section("scale", 4 * layout.cols);
    for (const auto& columns : layout.columns(*packed_)) {
      for (const std::uint32_t j : columns) {
        order_.push_back(j);
        std::memcpy(&scales_.emplace_back(), scale.data() + 4 * j, 4);
      }
    }
  }

  /// Elements of x times their columns' scales, part after part.
  void tabulate(const Input& x, Bytes& tables) const override {
    tables.resize(4 * scales_.size());
    auto* const scaled = reinterpret_cast<float*>(tables.data());
    for (std::size_t j = 0; j < scales_.size(); ++j) scaled[j] = scales_[j] * x.x[order_[j]];
  }

  void multiply(const Input& /*x*/, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    const auto* scaled = reinterpret_cast<const float*>(tables.data());
    std::fill(y + begin, y + end, 0.0f);
    thread_local AlignedVector<float> sums;
    for (const Columns& columns : parts_) {
      AdditivePart part = columns.part;
      part.x = scaled;
      scaled += part.steps;
      const std::size_t dim = columns.dim, first = begin / dim, last = (end + dim - 1) / dim;
      const std::size_t padded = columns.books.vectors() * kEntryLanes;
      sums.resize((last - first) * padded);
      columns.books.multiply(part, true, first, last, sums.data());
      for (std::size_t b = first; b < last; ++b) {
        const float* const from = sums.data() + (b - first) * padded;
        for (std::size_t i = b * dim; i < std::min((b + 1) * dim, end); ++i) {
          y[i] += from[i - b * dim];
        }
      }
    }
  }

 private:
  std::shared_ptr<const quant::Packed> packed_;
  std::vector<Columns> parts_;
  std::vector<std::uint32_t> order_;  // the columns, part after part
  std::vector<float> scales_;         // of these
};

}  // namespace

std::unique_ptr<const Kernel> vptq_kernel(std::shared_ptr<const quant::Packed> packed) {
  const quant::VptqLayout layout(packed->spec, packed->rows, packed->cols);
  const std::span books = packed->section("codebook", layout.book_bytes);
  std::vector<Columns> parts;
  std::size_t row_step = 1;
  for (const quant::VptqPart& part : layout.parts) {
    parts.push_back(
        {AdditiveBooks(books.subspan(part.books_at, part.book_bytes()), part.dim, part.sizes()),
         part.dim});
    row_step = std::lcm(row_step, parts.back().books.lines() * part.dim);
  }
  return std::make_unique<VptqKernel>(std::move(packed), layout, std::move(parts), row_step);
}

}  // namespace squish::kernels
