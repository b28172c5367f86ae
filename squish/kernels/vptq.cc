// Products with matrices of VPTQ (squish/quant/vptq.cc): a line is a block of rows, a step a
// column, whose entry meets one element of x, times the column's scale. Parts with codebooks of
// their own are multiplied one after the other. With AVX-512 VBMI small codebooks of all columns
// are looked up component by component instead.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "squish/base/isa.h"
#include "squish/kernels/additive.h"
#include "squish/kernels/entry_weights.h"
#include "squish/kernels/methods.h"
#include "squish/kernels/vptq_tables.isa.h"
#include "squish/quant/vptq_layout.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(VptqTableOps, kVptqTableOps);

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

/// Whether sums of 32 bits hold its products, and tables its books.
bool fits_tables(const quant::VptqLayout& layout) {
  constexpr std::size_t kMostCols = 32 * 1024;
  const quant::VptqPart& part = layout.parts.front();
  return layout.parts.size() == 1 && part.main <= kVptqEntries && part.residual <= kVptqEntries &&
         layout.cols <= kMostCols;
}

/// Holds codes in an order of its own.
class VptqTableKernel : public Kernel {
 public:
  VptqTableKernel(const quant::Packed& packed, const quant::VptqLayout& layout,
                  const VptqTableOps& ops)
      : Kernel(layout.rows, {.cols = layout.cols, .floats = true},
               kVptqBlocks * layout.parts.front().dim),
        ops_(ops),
        weights_(2, layout.rows % layout.parts.front().dim),
        scales_(layout.cols) {
    const quant::VptqPart& part = layout.parts.front();
    m_.cols = layout.cols;
    m_.dim = part.dim;
    m_.steps = (layout.cols + 2 * kVptqColumns - 1) / (2 * kVptqColumns) * 2;
    m_.residual = part.residual;
    std::memcpy(scales_.data(), packed.section("scale", 4 * layout.cols).data(), 4 * layout.cols);
    m_.scales = scales_.data();
    set_codes(packed.section("q", layout.code_bytes), part);
    set_books(packed.section("codebook", layout.book_bytes), part);
  }

  /// Whether 16 bits are enough for its entries: each is off by a twelfth of the unit's square, in
  /// the mean of squares.
  bool is_precise() const {
    double weight = 0;  // of a component of all rows
    for (const float scale : scales_) weight += double{scale} * scale;
    const double error = static_cast<double>(books_.size()) / 12 * double{unit_} * unit_;
    return std::isfinite(square_) &&
           error * weight * static_cast<double>(rows()) <= kMostError * kMostError * square_;
  }

  /// The input times the columns' scales, rounded to 16 bits in two halves.
  void tabulate(const Input& x, Bytes& tables) const override {
    thread_local Input rounded;
    thread_local std::vector<float> scaled;
    scaled.resize(m_.cols);
    for (std::size_t j = 0; j < m_.cols; ++j) scaled[j] = scales_[j] * x.x[j];
    make_input({.cols = m_.cols}, scaled, true, rounded);
    const std::size_t padded = rounded.q.size();
    tables.resize(sizeof(Head) + 2 * padded);
    const Head head{
        .unit = unit_ * rounded.scale[0],
        .sum = std::accumulate(rounded.sum.begin(), rounded.sum.end(), 0),
        .rest_sum = std::accumulate(rounded.rest_sum.begin(), rounded.rest_sum.end(), 0),
        .padded = padded};
    std::memcpy(tables.data(), &head, sizeof(head));
    std::memcpy(tables.data() + sizeof(head), rounded.q.data(), padded);
    std::memcpy(tables.data() + sizeof(head) + padded, rounded.rest.data(), padded);
  }

  void multiply(const Input& /*x*/, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    Head head{};
    std::memcpy(&head, tables.data(), sizeof(head));
    const auto* const q = reinterpret_cast<const std::int8_t*>(tables.data() + sizeof(head));
    ops_.multiply(m_, q, q + head.padded, head.sum, head.rest_sum, head.unit, begin, end, y);
  }

  bool decodes() const override { return true; }
  void decode(std::size_t begin, std::size_t end, float* rows) const override {
    ops_.decode(m_, begin, end, rows);
  }

 private:
  /// Of what tabulate() makes, before the input and what it leaves.
  struct Head {
    float unit;
    std::int32_t sum, rest_sum;
    std::size_t padded;
  };

  void set_books(std::span<const std::byte> stored, const quant::VptqPart& part) {
    const std::vector<std::size_t> sizes = part.sizes();
    books_ = quant::unpack_codebooks(stored, m_.dim, sizes);
    float largest = 0;
    for (std::size_t b = 0; b < books_.size(); ++b) {
      for (std::size_t e = 0; e < sizes[b]; ++e) {
        for (std::size_t d = 0; d < m_.dim; ++d) {
          const double weight = weights_.of(b, e, d);
          if (weight == 0) continue;
          const float value = books_[b][e][d];
          largest = std::max(largest, std::abs(value));
          square_ += weight * value * value;
        }
      }
      m_.books[b] = books_[b].values.data();
    }
    unit_ = largest / (kVptqOffset - 1);
    main_ = table(0, kVptqEntries, 1);
    m_.main = main_.data();
    m_.second = m_.main;
    if (sizes.size() == 1) return;
    second_ = m_.few() ? table(1, kVptqFew, 4) : table(1, kVptqEntries, 1);
    m_.second = second_.data();
  }

  /// Component by component the entries' low bytes and their high ones, each `times` over.
  AlignedVector<std::uint8_t> table(std::size_t book, std::size_t entries,
                                    std::size_t times) const {
    const std::size_t padded = (m_.dim + 3) / 4 * 4, half = entries * times;
    AlignedVector<std::uint8_t> bytes(padded * 2 * half);
    for (std::size_t e = 0; e < books_[book].size; ++e) {
      for (std::size_t d = 0; d < m_.dim; ++d) {
        if (weights_.of(book, e, d) == 0) continue;
        const float value = unit_ > 0 ? books_[book][e][d] / unit_ : 0;
        const auto whole = static_cast<unsigned>(std::lrintf(value) + kVptqOffset);
        for (std::size_t at = d * 2 * half + e; at < d * 2 * half + half; at += entries) {
          bytes[at] = static_cast<std::uint8_t>(whole);
          bytes[at + half] = static_cast<std::uint8_t>(whole >> 8);
        }
      }
    }
    return bytes;
  }

  void set_codes(std::span<const std::byte> stored, const quant::VptqPart& part) {
    const std::size_t tiles = (part.blocks() + kVptqBlocks - 1) / kVptqBlocks;
    const auto mask = static_cast<std::uint32_t>(part.main - 1);
    codes_.resize(tiles * m_.steps * 64);
    residual_codes_.resize(std::max<std::size_t>(64, tiles * m_.residual_bytes()));
    std::vector<std::uint32_t> fields(m_.cols);
    for (std::size_t block = 0; block < part.blocks(); ++block) {
      unpack_bits(stored.subspan(block * part.block_bytes(), part.block_bytes()), part.code_bits(),
                  fields);
      const std::size_t tile = block / kVptqBlocks, lane = block % kVptqBlocks * kVptqColumns;
      const bool at_edge = (block + 1) * m_.dim > rows();
      std::uint8_t* const codes = codes_.data() + tile * m_.steps * 64 + lane;
      std::uint8_t* const residuals =
          residual_codes_.data() + tile * m_.residual_bytes() + (m_.residual == 1 ? 0 : lane);
      for (std::size_t j = 0; j < m_.cols; ++j) {
        const std::size_t step = j / kVptqColumns, i = j % kVptqColumns;
        codes[64 * step + i] = static_cast<std::uint8_t>(fields[j] & mask);
        const double weight = double{scales_[j]} * scales_[j];
        weights_.add(0, fields[j] & mask, at_edge, weight);
        if (m_.residual == 1) continue;
        const std::uint32_t also = fields[j] >> part.main_bits;
        weights_.add(1, also, at_edge, weight);
        if (m_.few()) {
          std::uint8_t& two = residuals[step / 2 * 64 + i];
          two = static_cast<std::uint8_t>(two | also << (step % 2 * 4));
        } else {
          residuals[64 * step + i] = static_cast<std::uint8_t>(also);
        }
      }
    }
    m_.codes = codes_.data();
    m_.residual_codes = residual_codes_.data();
  }

  /// Of outputs, over their RMS.
  static constexpr double kMostError = 2e-4;

  const VptqTableOps& ops_;
  VptqTables m_{};
  float unit_ = 0;
  // Of components, weighted by their columns' scales squared, as far as books are independent.
  double square_ = 0;
  EntryWeights weights_;
  AlignedVector<std::uint8_t> main_, second_, codes_, residual_codes_;
  std::vector<quant::Codebook> books_;
  std::vector<float> scales_;
};

}  // namespace

std::unique_ptr<const Kernel> vptq_kernel(std::shared_ptr<const quant::Packed> packed) {
  const quant::VptqLayout layout(packed->spec, packed->rows, packed->cols);
  const VptqTableOps& tables = choose(scalar::kVptqTableOps, avx2::kVptqTableOps,
                                      avx512::kVptqTableOps, avx512vbmi::kVptqTableOps);
  if (tables.usable && fits_tables(layout)) {
    auto kernel = std::make_unique<VptqTableKernel>(*packed, layout, tables);
    if (kernel->is_precise()) return kernel;
  }
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
