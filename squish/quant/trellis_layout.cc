#include "squish/quant/trellis_layout.h"

#include <cmath>

namespace squish::quant {
namespace {

constexpr std::size_t kLongestStream = 384;  // rows

/// Gains of the two codes that have 5 to 8 bits together, to a few hundredths of a dB the best on
/// Gaussian weights. The first gives up density for reach: no second code, a tenth as wide, makes
/// up for a weight that is beyond all values of the first.
constexpr float kGains[][2] = {{1.12f, 0.138f}, {1.2f, 0.152f}, {1.22f, 0.078f}, {1.3f, 0.078f}};

}  // namespace

std::vector<TrellisStage> trellis_stages(const std::string& code, unsigned bits) {
  if (bits <= kMostTrellisBits) return {{trellis_code(code, bits), 1}};
  const unsigned first = (bits + 1) / 2;
  const auto& [wide, narrow] = kGains[bits - kMostTrellisBits - 1];
  return {{trellis_code(code, first), wide}, {trellis_code(code, bits - first), narrow}};
}

TrellisRates::TrellisRates(const Spec& spec, std::size_t cols) {
  const double bits = spec.real("bits");
  low = static_cast<unsigned>(bits);
  const double wanted = (bits - low) * static_cast<double>(cols);
  const auto off = [&](std::size_t n) { return std::abs(static_cast<double>(n) - wanted); };
  for (std::size_t n = TrellisLayout::kBlock; n < cols + TrellisLayout::kBlock;
       n += TrellisLayout::kBlock) {
    if (off(std::min(n, cols)) < off(high_cols)) high_cols = std::min(n, cols);
  }
}

TrellisLayout::TrellisLayout(const Spec& spec, std::size_t r, std::size_t c)
    : rates(spec, c), tiles(spec.word("form") == "tiles"), rows(r), cols(c) {
  if (tiles) return;
  std::size_t least = 0;
  for (const std::size_t j : {std::size_t{0}, cols - 1}) {
    for (const TrellisStage& stage : trellis_stages(spec.word("code"), rates.bits(j))) {
      const std::size_t group_bits = kGroup * stage.code.bits;
      least = std::max(least, (4 * stage.code.state_bits + group_bits - 1) / group_bits);
    }
  }
  groups = std::max(least, (rows + kGroup - 1) / kGroup);
  const std::size_t streams = (groups * kGroup + kLongestStream - 1) / kLongestStream;
  stream_groups = (groups + streams - 1) / streams;
  // The last stream may be too short for that, too.
  const std::size_t last = groups % stream_groups;
  if (last != 0 && last < least) groups += least - last;
}

}  // namespace squish::quant
