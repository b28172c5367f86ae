// INT2 to INT8: uniform scalar quantisation with one scale (and zero point) per group of g
// consecutive inputs of a row; rounded to nearest, or by GPTQ (arXiv 2210.17323) where the inputs'
// moments are known.
//
// Stored, per matrix:
//   q      codes of `bits` bits, LSB first, each row starting on a byte
//   scale  one per group, row by row; f32 or f16
//   zero   asymmetric only: the value of code 0, same type and order (a real offset, not an
//   integer)
// A row's last group is shorter where g does not divide the row; it has a scale of its own.
// Symmetric codes are offset binary: code c stands for c - 2^(bits-1); the scale is
// max|w| / (2^(bits-1) - 1), so that both ends of the range are represented; with clip=mse it may
// be negative, which gives the side with the larger weights the odd code. clip=mse: least squares
// for (scale, zero) given the codes and rounding given those, alternated from several starting
// ranges; the best squared error is kept. Calibrated, each weight's error counts with the energy of
// its input. Sweeps of coordinate descent follow (in the manner of QuantEase, arXiv 2309.01885):
// all codes again, each the best given the others, and with clip=mse every group's grid by least
// squares under H. order=act: groups stay runs of columns as stored (static groups), so nothing
// more is stored.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/base/isa.h"
#include "squish/linalg/gemm.h"
#include "squish/quant/feedback.h"
#include "squish/quant/int.isa.h"
#include "squish/quant/int_layout.h"
#include "squish/quant/registry.h"

namespace squish::quant {

SQUISH_DECLARE_TABLES(IntOps, kIntOps);

const IntOps& int_ops() { return choose(scalar::kIntOps, avx2::kIntOps, avx512::kIntOps); }

namespace {

using Layout = IntLayout;

void store(Bytes& bytes, std::size_t index, float value, bool half) {
  if (half) {
    const std::uint16_t h = to_f16(value);
    std::memcpy(bytes.data() + 2 * index, &h, 2);
  } else {
    std::memcpy(bytes.data() + 4 * index, &value, 4);
  }
}

float load(std::span<const std::byte> bytes, std::size_t index, bool half) {
  if (half) {
    std::uint16_t h = 0;
    std::memcpy(&h, bytes.data() + 2 * index, 2);
    return from_f16(h);
  }
  float value = 0;
  std::memcpy(&value, bytes.data() + 4 * index, 4);
  return value;
}

struct Grid {
  float scale = 0, zero = 0;
};

/// Makes the grid what will be stored; false where f16 cannot hold it.
bool make_storable(Grid& grid, const Layout& layout) {
  if (layout.half_scales) grid = {from_f16(to_f16(grid.scale)), from_f16(to_f16(grid.zero))};
  return std::isfinite(grid.scale) && std::isfinite(grid.zero);
}

/// Consecutive weights of a row, and how much the error of each counts; null: all the same.
struct Group {
  std::span<const float> w;
  const float* importance = nullptr;
};

/// Rounds one group on the grid; returns the squared error.
float round_on(const Grid& grid, const Group& group, const Layout& layout, std::uint8_t* codes) {
  return int_ops().round(group.w.data(), group.importance, group.w.size(), grid.scale, grid.zero,
                         layout.low(), layout.high(), codes);
}

/// The grid that spans [low, high] (asymmetric) or +-max(-low, high) (symmetric).
Grid spanning(float low, float high, const Layout& layout) {
  if (layout.symmetric) return {std::max(-low, high) / static_cast<float>(layout.high()), 0};
  return {(high - low) / static_cast<float>(layout.high()), low};
}

/// Least squares for the grid given the codes; false where the codes do not determine it.
bool refit(Grid& grid, const Group& group, const Layout& layout, const std::uint8_t* codes) {
  std::array<float, 5> sum{};
  int_ops().sums(group.w.data(), group.importance, codes, group.w.size(), layout.low(), sum.data());
  const double q1 = sum[0], q2 = sum[1], w1 = sum[2], qw = sum[3], n = sum[4];
  if (layout.symmetric) {
    if (q2 <= 0) return false;
    grid.scale = static_cast<float>(qw / q2);
    return grid.scale != 0;
  }
  const double determinant = n * q2 - q1 * q1;
  if (determinant <= 0) return false;
  grid.scale = static_cast<float>((n * qw - q1 * w1) / determinant);
  grid.zero = static_cast<float>((q2 * w1 - q1 * qw) / determinant);
  return grid.scale > 0;
}

constexpr int kMaxRefits = 12;
// Shares of the range that the starting grids span; fewer levels want harder clipping.
constexpr std::array<float, 6> kStarts = {1.0f, 0.92f, 0.84f, 0.76f, 0.66f, 0.55f};

/// The grid that starts from that share of [low, high]; `side` is the sign of a symmetric scale.
Grid start(float low, float high, float share, int side, const Layout& layout) {
  if (layout.symmetric) {
    const float scale = spanning(share * low, share * high, layout).scale;
    return {static_cast<float>(side) * scale, 0};
  }
  const float middle = 0.5f * (low + high), half = 0.5f * share * (high - low);
  return spanning(middle - half, middle + half, layout);
}

struct Scratch {
  std::vector<std::uint8_t> trial, best;
  explicit Scratch(const Layout& layout) : trial(layout.group), best(layout.group) {}
};

/// Codes one group into scratch.best and returns its grid.
Grid fit_group(const Group& group, const Layout& layout, bool least_squares, Scratch& scratch) {
  std::array<float, 2> range{};
  int_ops().range(group.w.data(), group.w.size(), range.data());
  Grid best = spanning(range[0], range[1], layout);
  if (!make_storable(best, layout)) {
    fail("a group of weights needs a scale beyond the range of f16; use scale=f32");
  }
  float best_error = round_on(best, group, layout, scratch.best.data());
  if (!least_squares) return best;

  for (const int side : {1, -1}) {
    if (side < 0 && !layout.symmetric) break;
    for (const float share : kStarts) {
      Grid grid = start(range[0], range[1], share, side, layout);
      float previous = std::numeric_limits<float>::infinity();
      for (int i = 0; i < kMaxRefits && make_storable(grid, layout); ++i) {
        const float error = round_on(grid, group, layout, scratch.trial.data());
        if (error < best_error) {
          best_error = error;
          best = grid;
          scratch.best = scratch.trial;
        }
        if (!(error < previous) || !refit(grid, group, layout, scratch.trial.data())) break;
        previous = error;
      }
    }
  }
  return best;
}

/// What encode() fills in.
struct Sections {
  Bytes q, scale, zero;

  explicit Sections(const Layout& layout)
      : q(layout.rows * layout.row_bytes()),
        scale(layout.scale_bytes()),
        zero(layout.symmetric ? 0 : layout.scale_bytes()) {}

  void store_grid(const Layout& layout, std::size_t index, const Grid& grid) {
    store(scale, index, grid.scale, layout.half_scales);
    if (!layout.symmetric) store(zero, index, grid.zero, layout.half_scales);
  }
  void store_codes(const Layout& layout, std::size_t row, std::span<const std::uint32_t> codes) {
    const Bytes packed = pack_bits(codes, layout.bits);
    std::memcpy(q.data() + row * layout.row_bytes(), packed.data(), packed.size());
  }
};

void encode_to_nearest(ConstMatrixView weights, const Layout& layout, bool least_squares,
                       Sections& sections, ThreadPool& pool) {
  parallel_for(pool, layout.rows, 16, [&](std::size_t begin, std::size_t end) {
    Scratch scratch(layout);
    std::vector<std::uint32_t> codes(layout.cols);
    for (std::size_t row = begin; row < end; ++row) {
      for (std::size_t g = 0; g < layout.groups(); ++g) {
        const auto w = weights.row(row).subspan(g * layout.group, layout.group_size(g));
        const Grid grid = fit_group({w}, layout, least_squares, scratch);
        sections.store_grid(layout, row * layout.groups() + g, grid);
        std::copy_n(scratch.best.begin(), w.size(), codes.begin() + g * layout.group);
      }
      sections.store_codes(layout, row, codes);
    }
  });
}

/// Fits the grids of one group of some rows to what was coded, under all of H: `targets` have the
/// feedback of all other groups. A grid changes only where that lowers the loss.
void refit_grids(ConstMatrixView weights, ConstMatrixView targets, std::size_t col,
                 const Layout& layout, const Descent& descent, std::span<const std::uint32_t> codes,
                 std::span<Grid> grids, MatrixView rounded) {
  const std::size_t rows = targets.rows, n = targets.cols, g = col / layout.group;
  const std::span<const double> metric(&descent.metric[col], n);
  const ConstMatrixView coupling =
      descent.coupling.view().row_range(col, col + n).col_range(col, col + n);
  Matrix q(rows, n), error(rows, n);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      q(i, j) =
          static_cast<float>(static_cast<int>(codes[i * layout.cols + col + j]) + layout.low());
      error(i, j) = weights(i, col + j) - rounded(i, col + j);
    }
  }
  // x H of the group's own block of H, each column over H_jj.
  Matrix qh = q, gradient = error;
  linalg::gemm_nn_add(q, coupling, qh);
  linalg::gemm_nn_add(error, coupling, gradient);
  std::vector<double> column_sums(n, 1);
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t j = 0; j < n; ++j) column_sums[j] += coupling(k, j);
  }
  for (std::size_t i = 0; i < rows; ++i) {
    double qhq = 0, qh1 = 0, h11 = 0, toward_q = 0, toward_1 = 0;
    for (std::size_t j = 0; j < n; ++j) {
      const double pull =
          metric[j] * (double{gradient(i, j)} + targets(i, j) - weights(i, col + j));
      qhq += metric[j] * qh(i, j) * q(i, j);
      qh1 += metric[j] * qh(i, j);
      h11 += metric[j] * column_sums[j];
      toward_q += pull * q(i, j);
      toward_1 += pull;
    }
    Grid& grid = grids[i * layout.groups() + g];
    Grid better = grid;
    if (layout.symmetric) {
      if (!(qhq > 0)) continue;
      better.scale = static_cast<float>(grid.scale + toward_q / qhq);
    } else {
      const double determinant = qhq * h11 - qh1 * qh1;
      if (!(determinant > 1e-9 * qhq * h11)) continue;
      better.scale =
          static_cast<float>(grid.scale + (toward_q * h11 - toward_1 * qh1) / determinant);
      better.zero = static_cast<float>(grid.zero + (toward_1 * qhq - toward_q * qh1) / determinant);
    }
    if (!make_storable(better, layout) || better.scale == 0) continue;
    if (!layout.symmetric && better.scale < 0) continue;
    const double ds = double{better.scale} - grid.scale, dz = double{better.zero} - grid.zero;
    const double change =
        ds * ds * qhq + 2 * ds * dz * qh1 + dz * dz * h11 - 2 * (ds * toward_q + dz * toward_1);
    if (!(change < 0)) continue;
    grid = better;
    for (std::size_t j = 0; j < n; ++j) {
      rounded(i, col + j) = grid.scale * q(i, j) + grid.zero;
    }
  }
}

/// GPTQ. A group's grid is fitted once the feedback of all later groups has reached its targets, or
/// beforehand (order=act), since its columns are then rounded at different times.
void encode_with_feedback(ConstMatrixView weights, const Layout& layout, const Spec& spec,
                          const ColumnFeedback& feedback, Sections& sections,
                          const EncodeContext& context) {
  ThreadPool& pool = context.pool;
  const bool least_squares = spec.word("clip") == "mse";
  bool ordered = !feedback.order.empty();
  std::vector<Grid> grids(layout.rows * layout.groups());
  std::vector<std::uint32_t> codes(layout.rows * layout.cols);
  const auto fit = [&](std::size_t row, std::size_t g, std::span<const float> w, Scratch& scratch) {
    const float* importance =
        feedback.weights.empty() ? nullptr : feedback.weights.data() + g * layout.group;
    grids[row * layout.groups() + g] = fit_group({w, importance}, layout, least_squares, scratch);
  };

  Matrix permuted(ordered ? layout.rows : 0, layout.cols);
  BlockRounding rounding;
  rounding.runs.team = context.team;
  if (ordered) {
    parallel_for(pool, layout.rows, 16, [&](std::size_t begin, std::size_t end) {
      Scratch scratch(layout);
      for (std::size_t row = begin; row < end; ++row) {
        for (std::size_t g = 0; g < layout.groups(); ++g) {
          fit(row, g, weights.row(row).subspan(g * layout.group, layout.group_size(g)), scratch);
        }
        for (std::size_t j = 0; j < layout.cols; ++j) {
          permuted(row, j) = weights(row, feedback.order[j]);
        }
      }
    });
  } else {
    rounding.group = layout.group;
    rounding.begin_group = [&](std::size_t first_row, std::size_t col, ConstMatrixView targets) {
      Scratch scratch(layout);
      for (std::size_t i = 0; i < targets.rows; ++i) {
        fit(first_row + i, col / layout.group, targets.row(i), scratch);
      }
    };
  }
  rounding.round = [&](std::size_t first_row, std::size_t position, ConstMatrixView target,
                       MatrixView rounded) {
    const std::size_t col = ordered ? feedback.order[position] : position;
    for (std::size_t i = 0; i < target.rows; ++i) {
      const Grid& grid = grids[(first_row + i) * layout.groups() + col / layout.group];
      std::uint8_t code = 0;
      round_on(grid, {target.row(i)}, layout, &code);
      int_ops().expand(&code, 1, grid.scale, grid.zero, layout.low(), &rounded(i, 0));
      codes[(first_row + i) * layout.cols + col] = code;
    }
  };
  Matrix rounded(layout.rows, layout.cols);
  ldlq(ordered ? ConstMatrixView(permuted) : weights, feedback.factor, rounding, rounded, pool);

  if (const std::int64_t sweeps = spec.integer("sweeps");
      sweeps > 0 && feedback.descent.coupling.size() != 0) {
    if (ordered) {  // only the feedback is
      permuted = rounded;
      for (std::size_t i = 0; i < layout.rows; ++i) {
        for (std::size_t j = 0; j < layout.cols; ++j) {
          rounded(i, feedback.order[j]) = permuted(i, j);
        }
      }
      ordered = false;
    }
    rounding.group = layout.group;
    rounding.begin_group = [&](std::size_t first_row, std::size_t col, ConstMatrixView targets) {
      if (!least_squares) return;
      const std::size_t end = first_row + targets.rows;
      refit_grids(weights.row_range(first_row, end), targets, col, layout, feedback.descent,
                  std::span(codes).subspan(first_row * layout.cols),
                  std::span(grids).subspan(first_row * layout.groups()),
                  rounded.view().row_range(first_row, end));
    };
    for (std::int64_t sweep = 0; sweep < sweeps; ++sweep) {
      descend(weights, feedback.descent, rounding, rounded, pool);
    }
  }

  rounding.runs.merge(layout.rows, std::span(grids));
  rounding.runs.merge(layout.rows, std::span(codes));
  for (std::size_t i = 0; i < grids.size(); ++i) sections.store_grid(layout, i, grids[i]);
  parallel_for(pool, layout.rows, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row) {
      sections.store_codes(layout, row, std::span(codes).subspan(row * layout.cols, layout.cols));
    }
  });
}

Packed encode(ConstMatrixView weights, const Spec& spec, const EncodeContext& context) {
  const Layout layout(spec, weights.rows, weights.cols);
  Sections sections(layout);
  if (context.prepared == nullptr) {
    encode_to_nearest(weights, layout, spec.word("clip") == "mse", sections, context.pool);
  } else {
    encode_with_feedback(weights, layout, spec, prepared_as<ColumnFeedback>(context, spec),
                         sections, context);
  }

  Packed packed{spec, layout.rows, layout.cols, {}};
  packed.sections.push_back({"q", Part::indices, std::move(sections.q)});
  packed.sections.push_back({"scale", Part::scales, std::move(sections.scale)});
  if (!layout.symmetric) {
    packed.sections.push_back({"zero", Part::scales, std::move(sections.zero)});
  }
  return packed;
}

void unpack_row(const std::byte* bytes, const Layout& layout, std::vector<std::uint8_t>& codes,
                std::vector<std::uint32_t>& wide) {
  if (layout.bits == 4) {
    int_ops().unpack_nibbles(reinterpret_cast<const std::uint8_t*>(bytes), layout.cols,
                             codes.data());
    return;
  }
  unpack_bits({bytes, layout.row_bytes()}, layout.bits, wide);
  std::transform(wide.begin(), wide.end(), codes.begin(),
                 [](std::uint32_t code) { return static_cast<std::uint8_t>(code); });
}

void decode(const Packed& packed, MatrixView out, ThreadPool& pool) {
  const Layout layout(packed.spec, packed.rows, packed.cols);
  const std::span<const std::byte> q = packed.section("q", layout.rows * layout.row_bytes());
  const std::span<const std::byte> scale = packed.section("scale", layout.scale_bytes());
  std::span<const std::byte> zero;
  if (!layout.symmetric) zero = packed.section("zero", layout.scale_bytes());

  parallel_for(pool, layout.rows, 64, [&](std::size_t begin, std::size_t end) {
    std::vector<std::uint8_t> codes(layout.cols);
    std::vector<std::uint32_t> wide(layout.cols);
    for (std::size_t row = begin; row < end; ++row) {
      unpack_row(q.data() + row * layout.row_bytes(), layout, codes, wide);
      for (std::size_t g = 0; g < layout.groups(); ++g) {
        const std::size_t index = row * layout.groups() + g, first = g * layout.group;
        const float offset = zero.empty() ? 0.0f : load(zero, index, layout.half_scales);
        int_ops().expand(codes.data() + first, layout.group_size(g),
                         load(scale, index, layout.half_scales), offset, layout.low(),
                         out.row(row).data() + first);
      }
    }
  });
}

double nominal_bpw(const Spec& spec, std::size_t rows, std::size_t cols) {
  const Layout layout(spec, rows, cols);
  const double per_group = (layout.half_scales ? 16.0 : 32.0) * (layout.symmetric ? 1 : 2);
  return layout.bits + per_group / static_cast<double>(layout.group);
}

}  // namespace

Method int_method(unsigned bits) {
  return {
      .name = "int" + std::to_string(bits),
      .summary = "uniform grid of " + std::to_string(1u << bits) +
                 " levels, one scale per group; calibrated: GPTQ",
      .source = "the original Squish benchmark (INT4 nibble); GPTQ, arXiv 2210.17323",
      .keys = {choice_key("sym", {"0", "1"}, "1: symmetric about zero; 0: with a zero point"),
               integer_key("g", 64, 0, 1 << 20, "group size along a row; 0: the whole row"),
               choice_key("clip", {"none", "mse"},
                          "how the range is found: min and max, or least squares"),
               choice_key("scale", {"f32", "f16"}, "type of scale and zero point"), order_key(),
               damp_key(),
               integer_key("sweeps", 3, 0, 1000,
                           "calibrated: sweeps of coordinate descent after the feedback; with "
                           "clip=mse they refit the grids too")},
      .nominal_bpw = nominal_bpw,
      .prepare = prepare_by_columns,
      .prepare_keys = {"damp", "order", "sweeps"},
      .encode = encode,
      .memory = {.weights = 2.2, .calibrated = 4.8, .preparing = 2.1, .prepared = 1.05},
      .shares_rows = true,
      .rows_apart = true,
      .decode = decode,
  };
}

}  // namespace squish::quant
