// Products with matrices of INT2 to INT8 (squish/quant/int.cc): integer dot products of a block of
// the input with codes as they are stored, each times its group's scale; what the codes' offset or
// the zero points add follows from the input's sums by group.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "squish/base/isa.h"
#include "squish/kernels/int.isa.h"
#include "squish/kernels/methods.h"
#include "squish/quant/int_layout.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(IntOps, kIntOps);

namespace {

std::size_t padded(std::size_t n) { return (n + kIntPadding - 1) / kIntPadding * kIntPadding; }

class IntKernel : public Kernel {
 public:
  explicit IntKernel(std::shared_ptr<const quant::Packed> packed)
      : Kernel(packed->rows, {.cols = packed->cols, .scale_by_block = true}, kRows,
               quant::IntLayout(packed->spec, packed->rows, packed->cols).bits > kCoarseBits),
        packed_(std::move(packed)),
        layout_(packed_->spec, packed_->rows, packed_->cols),
        ops_(choose(scalar::kIntOps, avx2::kIntOps, avx512::kIntOps, avx512vbmi::kIntOps)),
        multiply_(ops_.any[layout_.bits - 2]) {
    const auto stored = [&](const char* name, std::size_t bytes) {
      return reinterpret_cast<const std::uint8_t*>(packed_->section(name, bytes).data());
    };
    matrix_.rows = layout_.rows;
    matrix_.cols = layout_.cols;
    matrix_.blocks = (layout_.cols + kBlock - 1) / kBlock;
    matrix_.group = layout_.group;
    matrix_.groups = layout_.groups();
    matrix_.row_bytes = layout_.row_bytes();
    matrix_.code_bytes = layout_.rows * layout_.row_bytes();
    matrix_.codes = stored("q", matrix_.code_bytes);
    matrix_.scale = stored("scale", layout_.scale_bytes());
    matrix_.zero = layout_.symmetric ? nullptr : stored("zero", layout_.scale_bytes());
    matrix_.half = layout_.half_scales;
    if (ops_.lanes == 0) return;
    if (layout_.group % kBlock == 0 || matrix_.groups == 1) {
      multiply_ = ops_.whole[layout_.bits - 2];
      for (std::size_t b = 0; b < padded(matrix_.blocks); ++b) {
        block_group_.push_back(static_cast<std::int32_t>(group_of(b * kBlock)));
      }
      matrix_.block_group = block_group_.data();
    } else if (lanes_have_groups()) {
      multiply_ = ops_.split[layout_.bits - 2];
      matrix_.vector_group = vector_group_.data();
      matrix_.lane_group = lane_group_.data();
    }
  }

  void tabulate(const Input& x, Bytes& tables) const override {
    tables.resize(table_bytes());
    auto* const sums = reinterpret_cast<float*>(tables.data());
    float* const scales = sums + padded(matrix_.groups);
    auto* const ordered = reinterpret_cast<std::int8_t*>(scales + padded(matrix_.blocks));
    ops_.order(layout_.bits, x.q.data(), matrix_.blocks, ordered);
    if (fine()) {
      ops_.order(layout_.bits, x.rest.data(), matrix_.blocks, ordered + matrix_.blocks * kBlock);
    }
    std::fill_n(sums, padded(matrix_.groups) + padded(matrix_.blocks), 0.0f);
    const float part = fine() ? 1.0f / (1 << kRestBits) : 1;
    std::ranges::transform(x.scale, scales, [&](float scale) { return scale * part; });
    const float unit = layout_.symmetric ? static_cast<float>(layout_.low()) : 1;
    for (std::size_t g = 0; g < matrix_.groups; ++g) {
      const std::size_t end = g * layout_.group + layout_.group_size(g);
      for (std::size_t j = g * layout_.group; j < end;) {
        const std::size_t b = j / kBlock, stop = std::min((b + 1) * kBlock, end);
        const bool whole = j == b * kBlock && (stop % kBlock == 0 || stop == layout_.cols);
        const auto sum = [&](const auto& values, const auto& by_block) {
          return whole ? by_block[b] : std::accumulate(&values[j], values.data() + stop, 0);
        };
        const std::int32_t all =
            fine() ? sum(x.q, x.sum) * (1 << kRestBits) + sum(x.rest, x.rest_sum) : sum(x.q, x.sum);
        sums[g] += unit * scales[b] * static_cast<float>(all);
        j = stop;
      }
    }
  }

  void multiply(const Input& x, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    const auto* const sums = reinterpret_cast<const float*>(tables.data());
    const float* const scales = sums + padded(matrix_.groups);
    const auto* const ordered =
        reinterpret_cast<const std::int8_t*>(scales + padded(matrix_.blocks));
    const IntInput input{.x = x.q.data(),
                         .rest = x.rest.data(),
                         .ordered_x = ordered,
                         .ordered_rest = ordered + matrix_.blocks * kBlock,
                         .scale = scales,
                         .sum = sums};
    thread_local AlignedVector<float> scratch;
    const std::size_t stride = padded(std::max(matrix_.groups, matrix_.blocks)) + kIntPadding;
    scratch.resize(std::max(scratch.size(), kRows * stride));
    multiply_(matrix_, input, begin, end, scratch.data(), stride, y);
  }

  bool decodes() const override { return true; }
  void decode(std::size_t begin, std::size_t end, float* rows) const override {
    ops_.decode[layout_.bits - 2](matrix_, static_cast<float>(layout_.low()), begin, end, rows);
  }

 private:
  std::size_t table_bytes() const {
    return (padded(matrix_.groups) + padded(matrix_.blocks)) * sizeof(float) +
           2 * matrix_.blocks * kBlock;
  }

  /// The last one's beyond the last column.
  std::size_t group_of(std::size_t col) const {
    return std::min(col, layout_.cols - 1) / layout_.group;
  }

  /// Fills in vector_group_ and lane_group_; false where a lane's columns are of several groups.
  bool lanes_have_groups() {
    std::int8_t positions[kBlock], columns[kBlock];
    std::iota(positions, positions + kBlock, std::int8_t{0});
    ops_.order(layout_.bits, positions, 1, columns);
    for (std::size_t lane = 0; lane < matrix_.blocks * kBlock / 4; ++lane) {
      const std::size_t block = lane * 4 / kBlock * kBlock;
      std::size_t groups[4], n = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t col = block + columns[(lane * 4 + i) % kBlock];
        if (i == 0 || col < layout_.cols) groups[n++] = group_of(col);
      }
      if (std::any_of(groups, groups + n, [&](std::size_t g) { return g != groups[0]; })) {
        return false;
      }
      if (lane % ops_.lanes == 0) vector_group_.push_back(static_cast<std::uint32_t>(groups[0]));
      const std::size_t further = groups[0] - vector_group_.back();
      if (further >= ops_.lanes) return false;
      lane_group_.push_back(static_cast<std::uint8_t>(further));
    }
    return true;
  }

  std::shared_ptr<const quant::Packed> packed_;
  quant::IntLayout layout_;
  const IntOps& ops_;
  IntOps::Multiply multiply_;
  IntMatrix matrix_{};
  std::vector<std::int32_t> block_group_;
  std::vector<std::uint32_t> vector_group_;
  std::vector<std::uint8_t> lane_group_;
};

}  // namespace

std::unique_ptr<const Kernel> int_kernel(std::shared_ptr<const quant::Packed> packed) {
  return std::make_unique<IntKernel>(std::move(packed));
}

}  // namespace squish::kernels
