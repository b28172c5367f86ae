// Products with matrices of INT2 to INT8 (squish/quant/int.cc): integer dot products of a block of
// the input with codes, each times its group's scale; what the codes' offset or the zero points add
// follows from the input's sums. With vectors codes and scales are put into tiles of 16 rows, once,
// and what is stored is let go of; unless groups are of other sizes than multiples of 16.
#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "squish/base/isa.h"
#include "squish/kernels/int.isa.h"
#include "squish/kernels/methods.h"
#include "squish/quant/int_layout.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(IntOps, kIntOps);
SQUISH_DECLARE_TABLES(IntTileOps, kIntTileOps);

namespace {

std::size_t blocks_of(std::size_t cols) { return (cols + kBlock - 1) / kBlock; }

IntMatrix stored_matrix(const quant::Packed& packed, const quant::IntLayout& layout) {
  const auto stored = [&](const char* name, std::size_t bytes) {
    return reinterpret_cast<const std::uint8_t*>(packed.section(name, bytes).data());
  };
  IntMatrix m{};
  m.rows = layout.rows;
  m.cols = layout.cols;
  m.blocks = blocks_of(layout.cols);
  m.group = layout.group;
  m.groups = layout.groups();
  m.row_bytes = layout.row_bytes();
  m.codes = stored("q", layout.rows * layout.row_bytes());
  m.scale = stored("scale", layout.scale_bytes());
  m.zero = layout.symmetric ? nullptr : stored("zero", layout.scale_bytes());
  m.half = layout.half_scales;
  return m;
}

/// What both kernels make of the input.
class IntKernel : public Kernel {
 public:
  IntKernel(const quant::IntLayout& layout, std::size_t row_step)
      : Kernel(layout.rows, {.cols = layout.cols, .scale_by_block = true}, row_step,
               layout.bits > kCoarseBits),
        layout_(layout) {}

  bool decodes() const override { return true; }

 protected:
  const quant::IntLayout& layout() const { return layout_; }
  unsigned by_bits() const { return layout_.bits - 2; }
  std::size_t blocks() const { return blocks_of(layout_.cols); }

  /// The sum of columns [begin, end), which lie in one block, in units of its scale.
  std::int32_t sum_of(const Input& x, std::size_t begin, std::size_t end) const {
    const std::size_t b = begin / kBlock;
    const bool whole = begin == b * kBlock && (end % kBlock == 0 || end == layout_.cols);
    const auto sum = [&](const auto& values, const auto& by_block) {
      return whole ? by_block[b] : std::accumulate(&values[begin], values.data() + end, 0);
    };
    if (!fine()) return sum(x.q, x.sum);
    return sum(x.q, x.sum) * (1 << kRestBits) + sum(x.rest, x.rest_sum);
  }

  void set_scales(const Input& x, float* scales) const {
    const float part = fine() ? 1.0f / (1 << kRestBits) : 1;
    std::ranges::transform(x.scale, scales, [&](float scale) { return scale * part; });
  }

  /// Sums by group, times `unit`.
  void set_sums(const Input& x, const float* scales, float unit, float* sums) const {
    for (std::size_t g = 0; g < layout_.groups(); ++g) {
      const std::size_t end = g * layout_.group + layout_.group_size(g);
      sums[g] = 0;
      for (std::size_t j = g * layout_.group; j < end;) {
        const std::size_t b = j / kBlock, stop = std::min((b + 1) * kBlock, end);
        sums[g] += unit * scales[b] * static_cast<float>(sum_of(x, j, stop));
        j = stop;
      }
    }
  }

 private:
  quant::IntLayout layout_;
};

class StoredIntKernel : public IntKernel {
 public:
  StoredIntKernel(std::shared_ptr<const quant::Packed> packed, const quant::IntLayout& layout)
      : IntKernel(layout, 1),
        packed_(std::move(packed)),
        matrix_(stored_matrix(*packed_, layout)),
        ops_(choose(scalar::kIntOps, avx2::kIntOps, avx512::kIntOps, avx512vbmi::kIntOps)) {}

  void tabulate(const Input& x, Bytes& tables) const override {
    tables.resize((blocks() + layout().groups()) * sizeof(float));
    auto* const scales = reinterpret_cast<float*>(tables.data());
    set_scales(x, scales);
    const float unit = layout().symmetric ? static_cast<float>(layout().low()) : 1;
    set_sums(x, scales, unit, scales + blocks());
  }

  void multiply(const Input& x, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    const auto* const scales = reinterpret_cast<const float*>(tables.data());
    const IntInput input{.x = x.q.data(),
                         .rest = x.rest.data(),
                         .scale = scales,
                         .sum = scales + blocks(),
                         .offset = nullptr};
    ops_.multiply[by_bits()](matrix_, input, begin, end, y);
  }

  void decode(std::size_t begin, std::size_t end, float* rows) const override {
    ops_.decode[by_bits()](matrix_, static_cast<float>(layout().low()), begin, end, rows);
  }

 private:
  std::shared_ptr<const quant::Packed> packed_;
  IntMatrix matrix_;
  const IntOps& ops_;
};

class TiledIntKernel : public IntKernel {
 public:
  TiledIntKernel(const quant::Packed& packed, const quant::IntLayout& layout, std::size_t steps,
                 const IntTileOps& ops)
      : IntKernel(layout, 2 * kTileRows), ops_(ops) {
    const IntMatrix stored = stored_matrix(packed, layout);
    const std::size_t tiles = (layout.rows + kTileRows - 1) / kTileRows;
    const std::size_t tile_bytes = stored.blocks * kBlock * kTileRows * layout.bits / 8;
    codes_.resize(tiles * tile_bytes);
    auto* const codes = reinterpret_cast<std::uint8_t*>(codes_.data());
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      ops.arrange[by_bits()](stored, tile, codes + tile * tile_bytes);
    }
    const std::size_t pieces = stored.blocks * kTileSteps / steps;
    for (std::size_t piece = 0; piece < pieces; ++piece) {
      const std::size_t column = std::min(piece * steps * kTileStep, layout.cols - 1);
      piece_group_.push_back(static_cast<std::uint32_t>(column / layout.group));
    }
    arrange_values(stored, stored.scale, scale_);
    if (stored.zero != nullptr) arrange_values(stored, stored.zero, zero_);
    const auto bytes = [](const Bytes& values) {
      return reinterpret_cast<const std::uint8_t*>(values.data());
    };
    tiles_ = {.cols = layout.cols,
              .blocks = stored.blocks,
              .groups = stored.groups,
              .steps = steps,
              .codes = codes,
              .scale = bytes(scale_),
              .zero = stored.zero == nullptr ? nullptr : bytes(zero_),
              .half = stored.half,
              .piece_group = piece_group_.data()};
  }

  void tabulate(const Input& x, Bytes& tables) const override {
    const std::size_t pieces = piece_group_.size(), groups = layout().groups();
    tables.resize(4 * (pieces + blocks() + groups));
    auto* const scales = reinterpret_cast<float*>(tables.data());
    set_scales(x, scales);
    auto* const offsets = reinterpret_cast<std::int32_t*>(scales + blocks() + groups);
    if (tiles_.zero != nullptr) {
      set_sums(x, scales, 1, scales + blocks());
      std::fill_n(offsets, pieces, 0);
      return;
    }
    const std::size_t width = tiles_.steps * kTileStep;
    for (std::size_t piece = 0; piece < pieces; ++piece) {
      const std::size_t begin = std::min(piece * width, layout().cols);
      const std::size_t end = std::min(begin + width, layout().cols);
      offsets[piece] = begin == end ? 0 : layout().low() * sum_of(x, begin, end);
    }
  }

  void multiply(const Input& x, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    const auto* const scales = reinterpret_cast<const float*>(tables.data());
    const float* const sums = scales + blocks();
    const IntInput input{.x = x.q.data(),
                         .rest = x.rest.data(),
                         .scale = scales,
                         .sum = sums,
                         .offset = reinterpret_cast<const std::int32_t*>(sums + layout().groups())};
    const auto by_steps = static_cast<std::size_t>(std::countr_zero(tiles_.steps)) - 2;
    ops_.multiply[by_steps][by_bits()](tiles_, input, begin, end, y);
  }

  void decode(std::size_t begin, std::size_t end, float* rows) const override {
    ops_.decode[by_bits()](tiles_, static_cast<float>(layout().low()), begin, end, rows);
  }

 private:
  void arrange_values(const IntMatrix& m, const std::uint8_t* values, Bytes& out) const {
    const std::size_t size = m.half ? 2 : 4;
    out.assign((m.rows + kTileRows - 1) / kTileRows * kTileRows * m.groups * size, std::byte{0});
    for (std::size_t row = 0; row < m.rows; ++row) {
      for (std::size_t g = 0; g < m.groups; ++g) {
        const std::size_t at = (row / kTileRows * m.groups + g) * kTileRows + row % kTileRows;
        std::memcpy(out.data() + at * size, values + (row * m.groups + g) * size, size);
      }
    }
  }

  const IntTileOps& ops_;
  Bytes codes_, scale_, zero_;
  std::vector<std::uint32_t> piece_group_;
  IntTiles tiles_{};
};

/// Steps of a piece that lies in one group; 0: groups would have to be cut finer.
std::size_t piece_steps(const quant::IntLayout& layout) {
  if (layout.groups() == 1) return kTileSteps;
  for (std::size_t steps = kTileSteps; steps >= kTileSteps / 4; steps /= 2) {
    if (layout.group % (steps * kTileStep) == 0) return steps;
  }
  return 0;
}

}  // namespace

std::unique_ptr<const Kernel> int_kernel(std::shared_ptr<const quant::Packed> packed) {
  const quant::IntLayout layout(packed->spec, packed->rows, packed->cols);
  const IntTileOps& ops =
      choose(scalar::kIntTileOps, avx2::kIntTileOps, avx512::kIntTileOps, avx512vbmi::kIntTileOps);
  const std::size_t steps = ops.usable ? piece_steps(layout) : 0;
  if (steps == 0) return std::make_unique<StoredIntKernel>(std::move(packed), layout);
  return std::make_unique<TiledIntKernel>(*packed, layout, steps, ops);
}

}  // namespace squish::kernels
