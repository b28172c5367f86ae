// AQLM: additive quantisation of language models (Egiazarian et al. 2024, arXiv 2401.06118).
// g consecutive weights of a row are a group, coded as the sum of one vector from each of m
// codebooks, times the scale of their row.
//
// Stored, per matrix:
//   q         for each row, starting on a byte: group by group, m indices of b bits, LSB first
//   scale     one f16 a row, in units of `gain`
//   gain      one f32, a power of two: weights of any magnitude meet f16 where it is precise
//   codebook  m codebooks of 2^b vectors of g components, f16
// Where g does not divide the columns, the last group is coded by the columns that exist.
//
// With calibration the objective is the paper's, tr((W - What) H (W - What)'): squish/quant/
// additive_hessian.h. Each group of a row is searched jointly over its codebooks, where the paper's
// beam runs on from group to group; codebooks by conjugate gradients instead of Adam.
//
// Without it, as published: residual k-means as a start; then beam search over the codes and an
// update of codebooks and scales, in turn, until the relative gain is below `tol`. It departs from
// the authors' code in these points:
//   - the update is least squares, codebook by codebook, instead of 100 steps of Adam; the scales
//     are refitted after the rounds and once more after the last search, instead of in each round;
//   - a row's scale starts as its root mean square instead of its norm;
//   - k-means++ seeds, 20 iterations of Lloyd's where theirs are 100, groups weighted by their
//     row's scale squared (the error in W), dead entries re-seeded, where theirs keep their old
//     value;
//   - with H = identity the groups of a row are independent, so that the beam (8, as in the paper;
//     their code's default is 1) is spent on each group alone, codebooks in a fixed order, where
//     theirs is random; up to 4096 sums of entries (2^(m b)) are all tried instead, unless beam=1;
//   - at most `rounds` alternations;
//   - `share`: the codebooks are those of several tensors (shared_codebooks.h) and stay as they
//   are;
//   - of a large matrix a sample of groups is trained on, then all of it once more.
#include <algorithm>
#include <cstring>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/quant/additive_hessian.h"
#include "squish/quant/aqlm_layout.h"
#include "squish/quant/moments.h"
#include "squish/quant/registry.h"
#include "squish/quant/shared_codebooks.h"

namespace squish::quant {
namespace {

using Layout = AqlmLayout;

/// H as the objective needs it.
struct Metric : Prepared {
  Matrix metric;
};

std::shared_ptr<const Prepared> prepare_metric(const InputMoments& moments, const Spec& /*spec*/,
                                               const PrepareContext& /*context*/) {
  auto prepared = std::make_shared<Metric>();
  prepared->inputs = moments.second.size();
  prepared->metric = relative_metric(moments.second);
  return prepared;
}

AdditiveForm additive(const Spec& spec, std::size_t rows, std::size_t cols) {
  const Layout layout(spec, rows, cols);
  AdditiveOptions options;
  options.sizes.assign(layout.books, layout.entries());
  options.iterations = static_cast<int>(spec.integer("iters"));
  options.beam = static_cast<std::size_t>(spec.integer("beam"));
  options.rounds = static_cast<int>(spec.integer("rounds"));
  options.tolerance = spec.real("tol");
  options.half_scales = true;
  return {layout, options};
}

Packed encode(ConstMatrixView weights, const Spec& spec, const EncodeContext& context) {
  const Layout layout(spec, weights.rows, weights.cols);
  AdditiveOptions options = additive(spec, weights.rows, weights.cols).options;
  if (context.shared != nullptr) {
    options.books = unpack_codebooks(context.shared->bytes, layout.dim, options.sizes);
  }
  AdditiveCode code;
  if (context.prepared == nullptr) {
    code = additive_encode(weights, layout, options, context);
  } else {
    AdditiveOptions start = options;  // k-means and one search
    start.rounds = 0;
    code = additive_encode(weights, layout, start, context);
    refine_under(prepared_as<Metric>(context, spec).metric, weights, layout, options, code,
                 context.pool);
  }

  Bytes q(layout.rows * layout.row_bytes()), scale(2 * layout.rows), gain(4);
  parallel_for(context.pool, layout.rows, 16, [&](std::size_t begin, std::size_t end) {
    std::vector<std::uint32_t> fields(layout.blocks() * layout.books);
    for (std::size_t row = begin; row < end; ++row) {
      for (std::size_t block = 0; block < layout.blocks(); ++block) {
        std::copy_n(code.codes.begin() + (block * layout.rows + row) * layout.books, layout.books,
                    fields.begin() + block * layout.books);
      }
      const Bytes packed = pack_bits(fields, layout.bits);
      std::memcpy(q.data() + row * layout.row_bytes(), packed.data(), packed.size());
      const std::uint16_t half = to_f16(code.scales[row] / code.gain);
      std::memcpy(scale.data() + 2 * row, &half, 2);
    }
  });
  std::memcpy(gain.data(), &code.gain, 4);

  Packed packed{spec, layout.rows, layout.cols, {}};
  packed.sections.push_back({"q", Part::indices, std::move(q)});
  packed.sections.push_back({"scale", Part::scales, std::move(scale)});
  packed.sections.push_back({"gain", Part::scales, std::move(gain)});
  store_codebooks(code.books, context, packed);
  return packed;
}

void decode(const Packed& packed, MatrixView out, ThreadPool& pool) {
  const Layout layout(packed.spec, packed.rows, packed.cols);
  const std::span<const std::byte> q = packed.section("q", layout.rows * layout.row_bytes());
  const std::span<const std::byte> scale = packed.section("scale", 2 * layout.rows);
  const std::span<const std::byte> gain_bytes = packed.section("gain", 4);
  const std::span<const std::byte> book_bytes =
      packed.section("codebook", layout.books * layout.book_bytes());
  float gain = 0;
  std::memcpy(&gain, gain_bytes.data(), 4);
  const std::vector<Codebook> books = unpack_codebooks(
      book_bytes, layout.dim, std::vector<std::size_t>(layout.books, layout.entries()));

  parallel_for(pool, layout.rows, 16, [&](std::size_t begin, std::size_t end) {
    std::vector<std::uint32_t> fields(layout.blocks() * layout.books);
    std::vector<float> sum(layout.dim);
    for (std::size_t row = begin; row < end; ++row) {
      unpack_bits({q.data() + row * layout.row_bytes(), layout.row_bytes()}, layout.bits, fields);
      std::uint16_t half = 0;
      std::memcpy(&half, scale.data() + 2 * row, 2);
      const float row_scale = gain * from_f16(half);
      for (std::size_t block = 0; block < layout.blocks(); ++block) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (std::size_t m = 0; m < layout.books; ++m) {
          const float* entry = books[m][fields[block * layout.books + m]];
          for (std::size_t d = 0; d < layout.dim; ++d) sum[d] += entry[d];
        }
        const std::size_t first = block * layout.dim;
        for (std::size_t d = 0; d < std::min(layout.dim, layout.cols - first); ++d) {
          out(row, first + d) = row_scale * sum[d];
        }
      }
    }
  });
}

void check(const Spec& spec) {
  const auto m = spec.integer("m"), b = spec.integer("b"), g = spec.integer("g");
  if (m * b > 16 * g) {
    fail_usage("spec '{}': m * b / g = {:.4g} bits per weight, expected at most 16", spec.asked(),
               static_cast<double>(m * b) / static_cast<double>(g));
  }
}

double nominal_bpw(const Spec& spec, std::size_t rows, std::size_t cols) {
  const Layout layout(spec, rows, cols);
  return static_cast<double>(layout.books * layout.bits) / static_cast<double>(layout.dim);
}

}  // namespace

Method aqlm_method() {
  return {
      .name = "aqlm",
      .summary = "sums of learned vectors along a row, a scale per row",
      .source = "AQLM (arXiv 2401.06118)",
      .keys = {integer_key("m", 2, 1, 8, "codebooks"), integer_key("b", 8, 1, 16, "bits of a code"),
               integer_key("g", 8, 1, 32, "weights of a group, along the inputs"),
               integer_key("beam", 8, 1, 64,
                           "hypotheses kept in the search for codes; above 1 all the same "
                           "where 2^(m b) <= 4096: all sums are tried"),
               real_key("tol", "0.001", 0, 1, "relative gain below which the alternation stops"),
               integer_key("iters", 20, 1, 1000, "iterations of Lloyd's algorithm in the start"),
               integer_key("rounds", 30, 0, 1000,
                           "most alternations of beam search and least squares"),
               share_key()},
      .check = check,
      .nominal_bpw = nominal_bpw,
      .prepare = prepare_metric,
      .encode = encode,
      .memory = {.weights = 4, .calibrated = 4, .preparing = 0.55, .prepared = 0.95},
      .additive = additive,
      .decode = decode,
  };
}

}  // namespace squish::quant
