// QuIP# (arXiv 2402.04396): the matrix is rotated on both sides by random Hadamard transforms, so
// that its entries look Gaussian whatever they were, and 8 consecutive entries of a rotated row
// are rounded together to a point of a fixed lattice codebook. Where the input's
// moments are known: block LDLQ under the rotated moments, then sweeps of coordinate descent in
// which a vector moves only where that lowers the loss under its own block of them (the reference
// moves it always); else plain nearest point.
//
// Rotation and signs: squish/quant/incoherence.h. Rhat = scale * (q + q2 / rho), q from E8P, q2 the
// rounded residual (x - q) * rho: none at 2 bits, E81B at 3, E8P at 4 (squish/quant/e8p.h). Rows
// are padded with zeros to whole vectors after the rotation.
//
// Stored, per matrix:
//   codes      u16 a vector, row by row
//   residual   3 bits: u8 a vector; 4 bits: u16
//   signs_in   s_in, one bit a column, LSB first, 1 is minus
//   signs_out  s_out, one bit a row
//   scale      one f32
// The paper's scale is RMS(R) over a constant; here it is refitted to the codes by least squares
// (under the moments, if known), which costs no bits, and that constant is another at 4 bits. s_in
// is the same for all tensors that were prepared together. Signs stay bits, where the paper's
// fine-tuning makes them f16.
//
// form=gain is the original Squish benchmark's variant: a vector is a line (one of 256, u8 each in
// `codes`) and a signed f16 in `gain`, the projection onto it in units of `scale`, which is RMS(R).
// A positive gain and 256 directions could reach 5.74 dB on Gaussian weights at most, 256 lines
// with the sign in the gain 6.57 dB.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/quant/e8p.h"
#include "squish/quant/incoherence.h"
#include "squish/quant/quip_layout.h"
#include "squish/quant/registry.h"

namespace squish::quant {
namespace {

static_assert(std::endian::native == std::endian::little, "sections are little-endian");

constexpr std::size_t kVector = 8;  // weights that are rounded together

using Layout = QuipLayout;

/// The points that `count` vectors at x are rounded to: their codes, and residual codes above 2
/// bits.
struct Points {
  std::vector<std::uint16_t> main, residual;
};

Points nearest_points(std::int64_t bits, const float* x, std::size_t count) {
  const E8pOps& ops = e8p_ops();
  Points points{std::vector<std::uint16_t>(count), std::vector<std::uint16_t>(count)};
  ops.nearest_e8p(e8p_table(), x, count, points.main.data());
  if (bits == 2) return points;

  std::vector<float> rest(8 * count);
  ops.expand_e8p(e8p_table(), points.main.data(), count, rest.data());
  const float rho = e8p_magnification(bits);
  for (std::size_t i = 0; i < rest.size(); ++i) rest[i] = (x[i] - rest[i]) * rho;
  if (bits == 4) {
    ops.nearest_e8p(e8p_table(), rest.data(), count, points.residual.data());
    return points;
  }
  std::vector<std::uint8_t> narrow(count);
  ops.nearest_point(e81b_points(), rest.data(), count, narrow.data());
  std::copy(narrow.begin(), narrow.end(), points.residual.begin());
  return points;
}

void expand_points(std::int64_t bits, const Points& points, std::size_t count, float* out) {
  const E8pOps& ops = e8p_ops();
  ops.expand_e8p(e8p_table(), points.main.data(), count, out);
  if (bits == 2) return;

  const float inverse = 1 / e8p_magnification(bits);
  if (bits == 3) {
    for (std::size_t v = 0; v < count; ++v) {
      const float* const point = e81b_points().point[points.residual[v] & 255];
      for (std::size_t i = 0; i < 8; ++i) out[8 * v + i] += inverse * point[i];
    }
    return;
  }
  std::vector<float> rest(8 * count);
  ops.expand_e8p(e8p_table(), points.residual.data(), count, rest.data());
  for (std::size_t i = 0; i < rest.size(); ++i) out[i] += inverse * rest[i];
}

void store_point(const Layout& layout, const Points& points, std::size_t v, std::size_t vector,
                 Bytes& codes, Bytes& residual) {
  std::memcpy(codes.data() + 2 * vector, &points.main[v], 2);
  if (layout.bits == 3) residual[vector] = static_cast<std::byte>(points.residual[v]);
  if (layout.bits == 4) std::memcpy(residual.data() + 2 * vector, &points.residual[v], 2);
}

/// Rhat / scale for vectors [first, first + count).
void expand_e8p(const Layout& layout, std::span<const std::byte> codes,
                std::span<const std::byte> residual, std::size_t first, std::size_t count,
                float* out) {
  Points points{std::vector<std::uint16_t>(count), std::vector<std::uint16_t>(count)};
  std::memcpy(points.main.data(), codes.data() + 2 * first, 2 * count);
  if (layout.bits == 3) {
    for (std::size_t v = 0; v < count; ++v) {
      points.residual[v] = std::to_integer<std::uint16_t>(residual[first + v]);
    }
  } else if (layout.bits == 4) {
    std::memcpy(points.residual.data(), residual.data() + 2 * first, 2 * count);
  }
  expand_points(layout.bits, points, count, out);
}

/// Rounds vectors [first, first + count), which are 8 * count floats at x.
void round_e8p(const Layout& layout, const float* x, std::size_t first, std::size_t count,
               Bytes& codes, Bytes& residual) {
  const Points points = nearest_points(layout.bits, x, count);
  for (std::size_t v = 0; v < count; ++v) {
    store_point(layout, points, v, first + v, codes, residual);
  }
}

void round_gain(const float* x, std::size_t first, std::size_t count, Bytes& codes, Bytes& gains) {
  std::vector<float> dots(count);
  e8p_ops().nearest_line(e8_lines(), x, count,
                         reinterpret_cast<std::uint8_t*>(codes.data() + first), dots.data());
  for (std::size_t v = 0; v < count; ++v) {
    const std::uint16_t gain = to_f16(dots[v]);
    std::memcpy(gains.data() + 2 * (first + v), &gain, 2);
  }
}

void expand_gain(std::span<const std::byte> codes, std::span<const std::byte> gains,
                 std::size_t first, std::size_t count, float* out) {
  for (std::size_t v = 0; v < count; ++v) {
    std::uint16_t half = 0;
    std::memcpy(&half, gains.data() + 2 * (first + v), 2);
    const float gain = from_f16(half);
    const float* const line = e8_lines().point[std::to_integer<int>(codes[first + v])];
    for (std::size_t i = 0; i < 8; ++i) out[8 * v + i] = gain * line[i];
  }
}

/// The least-squares scale of the rounded rows, in units of the one they were rounded in.
double refit(ConstMatrixView rotated, const Layout& layout, std::span<const std::byte> codes,
             std::span<const std::byte> residual, ThreadPool& pool) {
  std::vector<float> sums(2 * layout.rows);
  parallel_for(pool, layout.rows, layout.grain(), [&](std::size_t begin, std::size_t end) {
    std::vector<float> q((end - begin) * layout.stride());
    expand_e8p(layout, codes, residual, begin * layout.row_vectors,
               (end - begin) * layout.row_vectors, q.data());
    for (std::size_t i = begin; i < end; ++i) {
      e8p_ops().dots(rotated.row(i).data(), q.data() + (i - begin) * layout.stride(), layout.cols,
                     &sums[2 * i]);
    }
  });
  double xq = 0, qq = 0;
  for (std::size_t i = 0; i < layout.rows; ++i) {
    xq += sums[2 * i];
    qq += sums[2 * i + 1];
  }
  return xq / qq;  // qq > 0: no sum of points is the origin
}

std::shared_ptr<const Prepared> prepare(const InputMoments& moments, const Spec& spec,
                                        const PrepareContext& context) {
  if (spec.word("form") == "gain") return nullptr;
  return prepare_rotated(moments, kVector, spec.real("damp"), spec.integer("sweeps") > 0, context);
}

/// Rounds the rotated matrix under the moments of its input; returns the factor by which the
/// scale is to grow.
double round_with_feedback(ConstMatrixView rotated, const Layout& layout,
                           const RotatedInput& prepared, std::int64_t sweeps, Bytes& codes,
                           Bytes& residual, const EncodeContext& context) {
  ThreadPool& pool = context.pool;
  Matrix rounded(layout.rows, layout.cols);
  bool first_pass = true;
  BlockRounding rounding;
  rounding.runs.team = context.team;
  rounding.round = [&](std::size_t first_row, std::size_t col, ConstMatrixView target,
                       MatrixView value) {
    std::vector<float> x(8 * target.rows), q(8 * target.rows);
    for (std::size_t i = 0; i < target.rows; ++i) {
      std::copy_n(target.row(i).begin(), target.cols, x.begin() + 8 * i);
    }
    const Points points = nearest_points(layout.bits, x.data(), target.rows);
    expand_points(layout.bits, points, target.rows, q.data());
    std::array<float, 8> now{}, then{};
    for (std::size_t i = 0; i < target.rows; ++i) {
      for (std::size_t j = 0; j < target.cols; ++j) {
        now[j] = q[8 * i + j] - x[8 * i + j];
        then[j] = value(i, j) - x[8 * i + j];
      }
      // Nearest is not best: blocks have a metric of their own.
      if (!first_pass && prepared.descent.form(col, {now.data(), target.cols}) >=
                             prepared.descent.form(col, {then.data(), target.cols})) {
        continue;
      }
      std::copy_n(q.begin() + 8 * i, target.cols, value.row(i).begin());
      store_point(layout, points, i, (first_row + i) * layout.row_vectors + col / 8, codes,
                  residual);
    }
  };
  ldlq(rotated, prepared.factor, rounding, rounded, pool);
  first_pass = false;
  for (std::int64_t sweep = 0; sweep < sweeps; ++sweep) {
    descend(rotated, prepared.descent, rounding, rounded, pool);
  }
  for (Bytes* const bytes : {&codes, &residual}) {
    rounding.runs.merge(layout.rows, std::span(*bytes));
  }
  return best_scale(rotated, rounded, prepared.factor, rounding.runs, pool);
}

Packed encode(ConstMatrixView weights, const Spec& spec, const EncodeContext& context) {
  const Layout layout(spec, weights.rows, weights.cols);
  ThreadPool& pool = context.pool;
  const RotatedInput* const prepared = rotated_input(context, spec, kVector);
  Bytes signs_in = prepared != nullptr ? prepared->signs_in
                                       : input_signs(layout.cols, context.seed, context.key);
  Bytes signs_out = output_signs(layout.rows, context.seed, context.key);

  const double rms = root_mean_square(weights, pool);
  double scale = layout.gain ? rms : rms / e8p_unit_rms(layout.bits);
  Matrix padded(layout.rows, layout.stride());
  const MatrixView rotated(padded.data(), layout.rows, layout.cols, layout.stride());
  rotate(weights, scale, signs_in, signs_out, rotated, pool);

  Bytes codes(layout.code_bytes());
  Bytes second(layout.second_bytes());
  if (prepared != nullptr) {
    scale *= round_with_feedback(rotated, layout, *prepared, spec.integer("sweeps"), codes, second,
                                 context);
  } else {
    parallel_for(pool, layout.rows, layout.grain(), [&](std::size_t begin, std::size_t end) {
      const std::size_t first = begin * layout.row_vectors;
      const std::size_t count = end * layout.row_vectors - first;
      if (layout.gain) {
        round_gain(padded.data() + 8 * first, first, count, codes, second);
      } else {
        round_e8p(layout, padded.data() + 8 * first, first, count, codes, second);
      }
    });
    if (!layout.gain) scale *= refit(rotated, layout, codes, second, pool);
  }

  Packed packed{spec, layout.rows, layout.cols, {}};
  packed.sections.push_back({"codes", Part::indices, std::move(codes)});
  if (layout.second_bytes() > 0) {
    packed.sections.push_back(
        {layout.second_name(), layout.gain ? Part::scales : Part::indices, std::move(second)});
  }
  store_rotation(std::move(signs_in), std::move(signs_out), scale, packed);
  return packed;
}

void decode(const Packed& packed, MatrixView out, ThreadPool& pool) {
  const Layout layout(packed.spec, packed.rows, packed.cols);
  const std::span<const std::byte> codes = packed.section("codes", layout.code_bytes());
  const std::span<const std::byte> second =
      layout.second_bytes() == 0 ? codes  // unused
                                 : packed.section(layout.second_name(), layout.second_bytes());
  const StoredRotation rotation(packed);

  parallel_for(pool, layout.rows, layout.grain(), [&](std::size_t begin, std::size_t end) {
    std::vector<float> row(layout.stride());
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t first = i * layout.row_vectors;
      if (layout.gain) {
        expand_gain(codes, second, first, layout.row_vectors, row.data());
      } else {
        expand_e8p(layout, codes, second, first, layout.row_vectors, row.data());
      }
      std::copy_n(row.begin(), layout.cols, out.row(i).begin());
    }
  });
  rotation.undo(out, pool);
}

void check(const Spec& spec) {
  if (spec.word("form") == "gain" && spec.integer("bits") != 2) {
    fail_usage("spec '{}': form=gain has a fixed rate and takes no bits", spec.asked());
  }
}

double nominal_bpw(const Spec& spec, std::size_t /*rows*/, std::size_t /*cols*/) {
  return spec.word("form") == "gain" ? (8 + 16) / 8.0 : static_cast<double>(spec.integer("bits"));
}

}  // namespace

Method quip_method() {
  return {
      .name = "quip",
      .summary = "random Hadamard transform on both sides, 8 weights at a time to the E8P lattice",
      .source = "QuIP#, arXiv 2402.04396; form=gain: the original Squish benchmark",
      .keys = {integer_key("bits", 2, 2, 4, "bits per weight; 3 and 4 add a residual codebook"),
               choice_key("form", {"e8p", "gain"},
                          "e8p: as published; gain: 8-bit line and 16-bit gain per 8 weights, "
                          "without bits"),
               damp_key(),
               integer_key("sweeps", 10, 0, 1000,
                           "calibrated: sweeps of coordinate descent after the feedback")},
      .check = check,
      .nominal_bpw = nominal_bpw,
      .prepare = prepare,
      .prepare_keys = {"damp", "sweeps"},
      .encode = encode,
      .memory = {.weights = 2.3, .calibrated = 3.5, .preparing = 2.1, .prepared = 1.05},
      .shares_rows = true,
      .decode = decode,
  };
}

}  // namespace squish::quant
