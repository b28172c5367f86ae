// Products with matrices of AQLM (squish/quant/aqlm.cc): a line is a row, a step a group, whose
// entries meet as many elements of x. With AVX-512 VBMI, where codes are bytes, rows look up what
// entries make of groups instead.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "squish/base/half.h"
#include "squish/base/isa.h"
#include "squish/kernels/additive.h"
#include "squish/kernels/aqlm_tables.isa.h"
#include "squish/kernels/entry_weights.h"
#include "squish/kernels/methods.h"
#include "squish/quant/aqlm_layout.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(AqlmTableOps, kAqlmTableOps);

namespace {

/// Times the gain.
std::vector<float> row_scales(const quant::Packed& packed, const quant::AqlmLayout& layout) {
  const std::span<const std::byte> scale = packed.section("scale", 2 * layout.rows);
  float gain = 0;
  std::memcpy(&gain, packed.section("gain", 4).data(), 4);
  std::vector<float> scales;
  for (std::size_t row = 0; row < layout.rows; ++row) {
    std::uint16_t half = 0;
    std::memcpy(&half, scale.data() + 2 * row, 2);
    scales.push_back(gain * from_f16(half));
  }
  return scales;
}

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
    scales_ = row_scales(*packed_, layout);
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

/// Holds codes in an order of its own.
class AqlmTableKernel : public Kernel {
 public:
  AqlmTableKernel(const quant::Packed& packed, const quant::AqlmLayout& layout,
                  const AqlmTableOps& ops)
      : Kernel(layout.rows, {.cols = layout.cols, .floats = true}, kTableRows),
        ops_(ops),
        weights_(layout.books, layout.cols % layout.dim),
        scales_(row_scales(packed, layout)) {
    m_.cols = layout.cols;
    m_.dim = layout.dim;
    m_.books = layout.books;
    m_.groups = layout.blocks();
    m_.padded = (layout.dim + kEntryLanes - 1) / kEntryLanes * kEntryLanes;
    m_.row_blocks = (layout.rows + kTableRows - 1) / kTableRows;
    set_codes(packed.section("q", layout.rows * layout.row_bytes()), layout.row_bytes());
    set_books(packed.section("codebook", layout.books * layout.book_bytes()));
    m_.scales = scales_.data();
  }

  /// Whether 16 bits are enough, for which the largest products of entries set the unit: each
  /// look-up is off by a twelfth of its square, in the mean of squares.
  bool is_precise() const {
    double weight = 0;  // of a group of all rows
    for (const float scale : scales_) weight += double{scale} * scale;
    const double unit = double{m_.norms} / 32767;
    const double error = static_cast<double>(m_.books * m_.dim) / 12 * unit * unit;
    return std::isfinite(square_) &&
           error * weight * static_cast<double>(m_.groups) <= kMostError * kMostError * square_;
  }

  void tabulate(const Input& x, Bytes& tables) const override {
    const std::size_t bytes = m_.groups * m_.books * kTableBytes;
    tables.resize(bytes + 4 * m_.groups);
    thread_local std::vector<float> whole_groups;
    whole_groups.assign(m_.groups * m_.dim, 0);
    std::copy_n(x.x.begin(), m_.cols, whole_groups.begin());
    ops_.tabulate(m_, whole_groups.data(), reinterpret_cast<std::uint8_t*>(tables.data()),
                  reinterpret_cast<float*>(tables.data() + bytes));
  }

  void multiply(const Input& /*x*/, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    const std::size_t bytes = m_.groups * m_.books * kTableBytes;
    thread_local AlignedVector<float> sums;
    sums.resize(std::max(sums.size(), end - begin + kTableRows));
    ops_.multiply(m_, reinterpret_cast<const std::uint8_t*>(tables.data()),
                  reinterpret_cast<const float*>(tables.data() + bytes), begin, end, sums.data(),
                  y);
  }

  bool decodes() const override { return true; }
  void decode(std::size_t begin, std::size_t end, float* rows) const override {
    ops_.decode(m_, begin, end, rows);
  }

 private:
  void set_books(std::span<const std::byte> stored) {
    columns_.resize(m_.books * m_.dim * kTableEntries);
    entries_.resize(m_.books * kTableEntries * m_.padded);
    const std::vector<quant::Codebook> books =
        quant::unpack_codebooks(stored, m_.dim, std::vector<std::size_t>(m_.books, kTableEntries));
    for (std::size_t b = 0; b < m_.books; ++b) {
      float largest = 0;
      for (std::size_t e = 0; e < kTableEntries; ++e) {
        float square = 0;
        for (std::size_t d = 0; d < m_.dim; ++d) {
          const float value = books[b][e][d];
          const double weight = weights_.of(b, e, d);
          if (weight == 0) continue;
          square_ += weight * value * value;
          columns_[(b * m_.dim + d) * kTableEntries + e] = value;
          entries_[(b * kTableEntries + e) * m_.padded + d] = value;
          square += value * value;
        }
        largest = std::max(largest, std::sqrt(square));
      }
      m_.norms += largest;
    }
    m_.columns = columns_.data();
    m_.entries = entries_.data();
  }

  void set_codes(std::span<const std::byte> stored, std::size_t row_bytes) {
    codes_.assign(m_.groups * m_.books * m_.row_blocks * kTableRows, std::byte{0});
    std::byte* to = codes_.data();
    for (std::size_t g = 0; g < m_.groups; ++g) {
      for (std::size_t block = 0; block < rows(); block += kTableRows) {
        for (std::size_t r = 0; r < std::min(kTableRows, rows() - block); ++r) {
          const std::byte* const from = stored.data() + (block + r) * row_bytes + g * m_.books;
          const double weight = double{scales_[block + r]} * scales_[block + r];
          const bool at_edge = (g + 1) * m_.dim > m_.cols;
          for (std::size_t b = 0; b < m_.books; ++b) {
            to[b * kTableRows + lane_of_row(r)] = from[b];
            weights_.add(b, std::to_integer<std::size_t>(from[b]), at_edge, weight);
          }
        }
        to += m_.books * kTableRows;
      }
    }
    m_.codes = reinterpret_cast<const std::uint8_t*>(codes_.data());
  }

  /// Of outputs, over their RMS.
  static constexpr double kMostError = 2e-4;

  const AqlmTableOps& ops_;
  AqlmTables m_{};
  // Of groups' norms, weighted by their rows' scales squared, as far as books are independent.
  double square_ = 0;
  EntryWeights weights_;
  Bytes codes_;
  AlignedVector<float> columns_, entries_;
  std::vector<float> scales_;
};

}  // namespace

std::unique_ptr<const Kernel> aqlm_kernel(std::shared_ptr<const quant::Packed> packed) {
  const quant::AqlmLayout layout(packed->spec, packed->rows, packed->cols);
  const AqlmTableOps& tables = choose(scalar::kAqlmTableOps, avx2::kAqlmTableOps,
                                      avx512::kAqlmTableOps, avx512vbmi::kAqlmTableOps);
  if (tables.usable && layout.bits == 8) {
    auto kernel = std::make_unique<AqlmTableKernel>(*packed, layout, tables);
    if (kernel->is_precise()) return kernel;
  }
  const std::vector<std::size_t> sizes(layout.books, layout.entries());
  AdditiveBooks books(packed->section("codebook", layout.books * layout.book_bytes()), layout.dim,
                      sizes);
  return std::make_unique<AqlmKernel>(std::move(packed), layout, std::move(books));
}

}  // namespace squish::kernels
