// Trellis-coded quantisation (QTIP, arXiv 2406.11235): incoherence processing on both sides, then
// long runs of rotated weights are coded together, each weight's value given by the last bits of a
// stream that grows by `bits` a weight; the Viterbi algorithm finds the stream whose values are
// nearest.
//
// Where it departs from QTIP: a stream runs down the rows of ONE column, not through a 16 x 16
// tile. All its weights share an input, so the plain squared error is the true metric inside it,
// and error feedback acts after every column (LDLQ in blocks of 1, then sweeps of coordinate
// descent) where tiles leave 16 columns without any. The default code is our own, for vector
// registers (trellis_code.h); QTIP's are there for comparison.
//
// Stored, per matrix of m rows (padded to whole groups of 8) and n columns:
//   codes      for each group of 8 rows, for each block of 64 columns (the last may be narrower):
//              K bytes a column, first the lowest bytes of all columns of the block, then the next.
//              These are the 8 symbols of the group, bits K * r and up that of row r. K is `bits`;
//              where that is a fraction, it is rounded up in the first blocks (whose errors no
//              column before them makes up for), as many as come closest in columns, and down in
//              the rest. Above 4 bits the sum of two codes: ceil(K / 2) bytes of the first, then
//              those of the second, for what the first leaves (trellis_stages()).
//   signs_in, signs_out   squish/quant/incoherence.h
//   scale      one f32
// A stream is a ring: the state of a row is the L bits from its symbol on, lowest first, then those
// of the rows after it, and after the stream's last row its first. A code with two weights a step
// has the state of the even row. A matrix has as few streams of up to 384 rows as can be, all of as
// many groups, but the last perhaps of fewer; rows are padded where one would be shorter than 4
// states. Rhat = scale * value(state).
// form=tiles is QTIP's: `codes` has for each tile of 16 x 16 weights (the last ones of a row or
// column padded), row by row, a ring of 256 symbols, LSB first, of the tile's weights row by row;
// feedback acts after every 16 columns.
#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/quant/incoherence.h"
#include "squish/quant/registry.h"
#include "squish/quant/trellis_code.h"
#include "squish/quant/trellis_layout.h"
#include "squish/quant/viterbi.h"

namespace squish::quant {
namespace {

using Layout = TrellisLayout;
using Stage = TrellisStage;
constexpr std::size_t kGroup = TrellisLayout::kGroup, kTile = TrellisLayout::kTile;

bool in_tiles(const Spec& spec) { return spec.word("form") == "tiles"; }
std::size_t feedback_block(const Spec& spec) { return in_tiles(spec) ? kTile : 1; }

/// For columns of one rate.
class Encoder {
 public:
  explicit Encoder(const std::vector<Stage>& stages) {
    for (const Stage& stage : stages) stages_.emplace_back(stage);
  }

  /// Rounds a ring's weights, which are `target` row by row, `width` a row (what is missing at the
  /// right is 0), unless `value` is as near and `keep_nearer` says so. `store(code, before,
  /// symbols)`: bits of the codes before this one.
  template <class Store>
  void round(std::size_t length, std::size_t width, ConstMatrixView target, MatrixView value,
             bool keep_nearer, const Store& store) {
    std::vector<float> x(target.rows * width), values(x.size()), rest(x.size());
    for (std::size_t i = 0; i < target.rows; ++i) {
      for (std::size_t j = 0; j < target.cols; ++j) x[i * width + j] = target(i, j);
    }
    std::vector<std::vector<std::uint16_t>> symbols;
    for (StageEncoder& stage : stages_) {
      const TrellisCode& code = stage.pool.code();
      for (std::size_t k = 0; k < x.size(); ++k) rest[k] = (x[k] - values[k]) / stage.gain;
      stage.pool.encode(rest, symbols.emplace_back(length / code.step));
      for (std::size_t k = 0; k < x.size(); ++k) {
        values[k] += stage.gain * trellis_value(code, symbols.back(), k);
      }
    }
    double now = 0, then = 0;
    for (std::size_t i = 0; i < target.rows; ++i) {
      for (std::size_t j = 0; j < target.cols; ++j) {
        now += std::pow(double{values[i * width + j]} - target(i, j), 2);
        then += std::pow(double{value(i, j)} - target(i, j), 2);
      }
    }
    if (keep_nearer && now >= then) return;
    for (std::size_t i = 0; i < target.rows; ++i) {
      for (std::size_t j = 0; j < target.cols; ++j) value(i, j) = values[i * width + j];
    }
    unsigned before = 0;
    for (std::size_t s = 0; s < symbols.size(); ++s) {
      store(stages_[s].pool.code(), before, symbols[s]);
      before += stages_[s].pool.code().bits;
    }
  }

 private:
  struct StageEncoder {
    ViterbiPool pool;
    float gain;
    explicit StageEncoder(const Stage& stage) : pool(stage.code), gain(stage.gain) {}
  };
  std::deque<StageEncoder> stages_;  // which cannot be moved
};

/// As column j of the stream that begins with group `first`, after `before` bits of other codes.
void store_stream(const Layout& layout, const TrellisCode& code, unsigned before, std::size_t first,
                  std::size_t j, std::span<const std::uint16_t> symbols, Bytes& codes) {
  const std::size_t per_group = kGroup / code.step, stride = layout.block_width(j);
  for (std::size_t g = 0; g < symbols.size() / per_group; ++g) {
    std::uint32_t word = 0;
    for (std::size_t s = per_group; s-- > 0;) {
      word = word << code.step_bits() | symbols[g * per_group + s];
    }
    std::byte* const at = codes.data() + layout.address(first + g, j) + before * stride;
    for (std::size_t b = 0; b < code.bits; ++b) {
      at[b * stride] = static_cast<std::byte>(word >> (8 * b));
    }
  }
}

void decode_tile(const Layout& layout, const TrellisCode& code, std::span<const std::byte> codes,
                 std::size_t tile, MatrixView out) {
  std::vector<std::uint32_t> fields(kTile * kTile / code.step);
  unpack_bits(std::span(codes).subspan(tile * layout.tile_bytes(), layout.tile_bytes()),
              code.step_bits(), fields);
  const std::vector<std::uint16_t> symbols(fields.begin(), fields.end());
  const std::size_t first_row = tile / layout.tile_cols() * kTile;
  const std::size_t first_col = tile % layout.tile_cols() * kTile;
  for (std::size_t i = first_row; i < std::min(layout.rows, first_row + kTile); ++i) {
    for (std::size_t j = first_col; j < std::min(layout.cols, first_col + kTile); ++j) {
      out(i, j) = trellis_value(code, symbols, (i - first_row) * kTile + j - first_col);
    }
  }
}

void store_tile(const Layout& layout, const TrellisCode& code, std::size_t tile,
                std::span<const std::uint16_t> symbols, Bytes& codes) {
  const std::vector<std::uint32_t> fields(symbols.begin(), symbols.end());
  const Bytes packed = pack_bits(fields, code.step_bits());
  std::copy(packed.begin(), packed.end(),
            codes.begin() + static_cast<std::ptrdiff_t>(tile * layout.tile_bytes()));
}

/// The block of columns from j on of a group of rows.
void decode_block(const Layout& layout, const std::vector<Stage>& stages,
                  std::span<const std::byte> codes, std::size_t group, std::size_t j,
                  MatrixView out) {
  const std::size_t width = layout.block_width(j);
  const std::size_t rows = std::min(kGroup, out.rows - group * kGroup);
  for (std::size_t r = 0; r < rows; ++r)
    std::ranges::fill(out.row(group * kGroup + r).subspan(j, width), 0.0f);
  std::size_t before = 0;
  for (const auto& [code, gain] : stages) {
    // The group's own bytes and those that its last states run on into.
    std::uint64_t windows[Layout::kBlock] = {};
    for (std::size_t b = 0, g = group; b < code.bits + 2; ++b) {
      const std::byte* const bytes =
          &codes[layout.address(g, j) + (before + b % code.bits) * width];
      for (std::size_t c = 0; c < width; ++c) {
        windows[c] |= std::to_integer<std::uint64_t>(bytes[c]) << (8 * b);
      }
      if ((b + 1) % code.bits == 0) g = layout.after(g);
    }
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t place = r % code.step, shift = code.bits * (r - place);
      const float* const values = code.values.data() + (place << code.state_bits);
      float* const row = out.row(group * kGroup + r).data() + j;
      const std::uint64_t mask = code.states() - 1;
      for (std::size_t c = 0; c < width; ++c) row[c] += gain * values[windows[c] >> shift & mask];
    }
    before += code.bits;
  }
}

std::shared_ptr<const Prepared> prepare(const InputMoments& moments, const Spec& spec,
                                        const PrepareContext& context) {
  return prepare_rotated(moments, feedback_block(spec), spec.real("damp"),
                         spec.integer("sweeps") > 0, context);
}

Packed encode(ConstMatrixView weights, const Spec& spec, const EncodeContext& context) {
  const Layout layout(spec, weights.rows, weights.cols);
  ThreadPool& pool = context.pool;
  const RotatedInput* const prepared = rotated_input(context, spec, feedback_block(spec));
  Bytes signs_in = prepared != nullptr ? prepared->signs_in
                                       : input_signs(layout.cols, context.seed, context.key);
  Bytes signs_out = output_signs(layout.rows, context.seed, context.key);
  double scale = root_mean_square(weights, pool);
  Matrix rotated(layout.rows, layout.cols), rounded(layout.rows, layout.cols);
  rotate(weights, scale, signs_in, signs_out, rotated, pool);

  const std::string& name = spec.word("code");
  Encoder low(trellis_stages(name, layout.rates.low));
  std::optional<Encoder> high;
  if (layout.rates.high_cols > 0) high.emplace(trellis_stages(name, layout.rates.low + 1));
  Bytes codes(layout.code_bytes());
  bool first_pass = true;
  BlockRounding rounding;
  rounding.runs = {layout.ring_rows(), context.team};
  rounding.round = [&](std::size_t first_row, std::size_t col, ConstMatrixView target,
                       MatrixView value) {
    Encoder& encoder = col < layout.rates.high_cols ? *high : low;
    for (std::size_t begin = 0; begin < target.rows; begin += layout.ring_rows()) {
      const std::size_t end = std::min(target.rows, begin + layout.ring_rows());
      const std::size_t row = first_row + begin, group = row / kGroup;
      const auto store = [&](const TrellisCode& code, unsigned before,
                             std::span<const std::uint16_t> symbols) {
        if (layout.tiles) {
          store_tile(layout, code, row / kTile * layout.tile_cols() + col / kTile, symbols, codes);
        } else {
          store_stream(layout, code, before, group, col, symbols, codes);
        }
      };
      // A ring may be closed elsewhere than was best.
      encoder.round(layout.tiles ? kTile * kTile : kGroup * layout.length(group),
                    layout.ring_cols(), target.row_range(begin, end), value.row_range(begin, end),
                    !first_pass, store);
    }
  };
  if (prepared != nullptr) {
    ldlq(rotated, prepared->factor, rounding, rounded, pool);
    first_pass = false;
    for (std::int64_t sweep = 0; sweep < spec.integer("sweeps"); ++sweep) {
      descend(rotated, prepared->descent, rounding, rounded, pool);
    }
    // The padding of a short last stream lies in the last run.
    rounding.runs.merge(layout.tiles ? layout.rows : layout.groups * kGroup, std::span(codes),
                        layout.tiles ? kTile : kGroup);
    scale *= best_scale(rotated, rounded, prepared->factor, rounding.runs, pool);
  } else {
    const std::size_t across = (layout.cols + layout.ring_cols() - 1) / layout.ring_cols();
    const std::size_t down = (layout.rows + layout.ring_rows() - 1) / layout.ring_rows();
    pool.run(across * down, [&](std::size_t ring) {
      const std::size_t row = ring / across * layout.ring_rows();
      const std::size_t col = ring % across * layout.ring_cols();
      const std::size_t row_end = std::min(layout.rows, row + layout.ring_rows());
      const std::size_t col_end = std::min(layout.cols, col + layout.ring_cols());
      rounding.round(row, col, rotated.view().row_range(row, row_end).col_range(col, col_end),
                     rounded.view().row_range(row, row_end).col_range(col, col_end));
    });
    scale *= best_scale(rotated, rounded, pool);
  }

  Packed packed{spec, layout.rows, layout.cols, {}};
  packed.sections.push_back({"codes", Part::indices, std::move(codes)});
  store_rotation(std::move(signs_in), std::move(signs_out), scale, packed);
  return packed;
}

void decode(const Packed& packed, MatrixView out, ThreadPool& pool) {
  const Layout layout(packed.spec, packed.rows, packed.cols);
  const std::span<const std::byte> codes = packed.section("codes", layout.code_bytes());
  const StoredRotation rotation(packed);
  const std::string& name = packed.spec.word("code");
  if (layout.tiles) {
    const TrellisCode& code = trellis_code(name, layout.rates.low);
    pool.run(layout.tile_rows() * layout.tile_cols(),
             [&](std::size_t tile) { decode_tile(layout, code, codes, tile, out); });
  } else {
    const std::vector<Stage> first = trellis_stages(name, layout.rates.bits(0));
    const std::vector<Stage> last = trellis_stages(name, layout.rates.bits(layout.cols - 1));
    pool.run((layout.rows + kGroup - 1) / kGroup, [&](std::size_t group) {
      for (std::size_t j = 0; j < layout.cols; j += Layout::kBlock) {
        decode_block(layout, j < layout.rates.high_cols ? first : last, codes, group, j, out);
      }
    });
  }
  rotation.undo(out, pool);
}

void check(const Spec& spec) {
  const double bits = spec.real("bits");
  const std::string& code = spec.word("code");
  if (code == "hyb" && bits > 2) {
    fail_usage("spec '{}': code=hyb has two weights a step and at most 2 bits a weight",
               spec.asked());
  }
  const bool whole = bits == std::floor(bits), ours = code == "hash" || code == "fast";
  if (bits > kMostTrellisBits && !ours) {
    fail_usage("spec '{}': only code=hash and code=fast have more than {} bits", spec.asked(),
               kMostTrellisBits);
  }
  if (in_tiles(spec) && (!whole || bits > kMostTrellisBits || spec.integer("sweeps") != 0)) {
    fail_usage("spec '{}': form=tiles takes whole bits up to {} and no sweeps", spec.asked(),
               kMostTrellisBits);
  }
}

double nominal_bpw(const Spec& spec, std::size_t /*rows*/, std::size_t cols) {
  const TrellisRates rates(spec, cols);
  return rates.low + static_cast<double>(rates.high_cols) / static_cast<double>(cols);
}

}  // namespace

Method trellis_method() {
  return {
      .name = "trellis",
      .summary = "random Hadamard transform on both sides, columns coded along a trellis",
      .source = "QTIP, arXiv 2406.11235; streams down the columns and the default code are ours",
      .keys = {real_key("bits", "2", 1, 8,
                        "bits per weight, above 4 the sum of two codes; a fraction: one more in "
                        "that share of the columns, in blocks of 64"),
               choice_key("code", {"hash", "fast", "1mad", "3inst", "hyb"},
                          "values of the states; hash: ours, for vector registers; fast: the same "
                          "with fewer states; the others are QTIP's"),
               choice_key("form", {"columns", "tiles"},
                          "what a stream runs through; tiles: 16 x 16 weights, as published"),
               damp_key(),
               integer_key("sweeps", 0, 0, 1000,
                           "calibrated: sweeps of coordinate descent after the feedback")},
      .check = check,
      .nominal_bpw = nominal_bpw,
      .prepare = prepare,
      .prepare_keys = {"damp", "form", "sweeps"},
      .encode = encode,
      .memory = {.weights = 3.3, .calibrated = 3.8, .preparing = 2.1, .prepared = 1.05},
      .shares_rows = true,
      .decode = decode,
  };
}

}  // namespace squish::quant
