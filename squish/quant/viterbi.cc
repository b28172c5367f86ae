#include "squish/quant/viterbi.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "squish/base/isa.h"
#include "squish/quant/viterbi.isa.h"

namespace squish::quant {

SQUISH_DECLARE_TABLES(ViterbiOps, kViterbiOps);

const ViterbiOps& viterbi_ops() {
  return choose(scalar::kViterbiOps, avx2::kViterbiOps, avx512::kViterbiOps);
}

namespace {

// Doubled differences of a value and a weight saturate here, in deviations of the weights: what is
// further off costs no more. Metrics saturate not far beyond that, and where all paths do at once,
// at a rare large weight that no value is near to, what came before is forgotten. More would round
// metrics more coarsely, which few bits, whose errors are large, do not feel.
double largest_difference(unsigned bits) { return bits <= 2 ? 5 : 2.5; }

// Steps on each side of the seam that are coded again, in states' memories: further away the path
// is the same.
constexpr std::size_t kSeamMemories = 9;

constexpr std::size_t kGap = 32;  // a line of the cache, of metrics

}  // namespace

ViterbiCode::ViterbiCode(const TrellisCode& code) : code_(code) {
  const unsigned bits = code.step_bits();
  const std::size_t lanes = viterbi_ops().lanes;
  assert(bits <= 4);
  const unsigned steps = viterbi_ops().steps[bits - 1];
  assert(lanes << (steps * bits + bits) <= code.states());
  (void)steps;
  unit_ = 2 * largest_difference(code.bits) / std::numeric_limits<std::int16_t>::max();

  values_.resize(code.step);
  std::map<std::vector<std::int16_t>, std::uint32_t> known;
  for (std::size_t s = 0; s < code.states(); s += lanes) {
    std::vector<std::int16_t> run;
    for (unsigned i = 0; i < code.step; ++i) {
      const float* const values = &code.values[(std::size_t{i} << code.state_bits) + s];
      for (std::size_t l = 0; l < lanes; ++l) run.push_back(whole(values[l]));
    }
    const auto [at, is_new] = known.try_emplace(run, known.size() * lanes);
    offsets_.push_back(at->second);
    if (!is_new) continue;
    for (unsigned i = 0; i < code.step; ++i) {
      const auto begin = run.begin() + static_cast<std::ptrdiff_t>(i * lanes);
      values_[i].insert(values_[i].end(), begin, begin + static_cast<std::ptrdiff_t>(lanes));
    }
  }
}

std::int16_t ViterbiCode::whole(float x) const {
  constexpr double kLargest = std::numeric_limits<std::int16_t>::max();
  return static_cast<std::int16_t>(std::lround(std::clamp(x / unit_, -kLargest, kLargest)));
}

ViterbiEncoder::ViterbiEncoder(const ViterbiCode& code)
    : code_(code), errors_(4 * code.values_[0].size()) {
  const ViterbiOps& ops = viterbi_ops();
  const unsigned bits = code.code().step_bits();
  const unsigned steps = ops.steps[bits - 1], taken = bits * steps;
  gap_ = ops.lanes << 2 * taken <= code.code().states() ? kGap : 0;
  segment_bits_ = code.code().state_bits - taken;
  metrics_.resize(code.code().states() + (gap_ << taken));
  next_.resize(metrics_.size());
}

void ViterbiEncoder::best_path(std::span<const float> x, std::size_t ring, std::size_t first,
                               std::size_t steps, std::int64_t low, std::int64_t after) {
  const ViterbiOps& ops = viterbi_ops();
  const TrellisCode& code = code_.code();
  const unsigned bits = code.step_bits(), width = code.state_bits;
  const std::size_t groups = code.states() >> bits;
  const std::size_t segment = std::size_t{1} << segment_bits_;  // and as many bytes of back_
  back_.resize(std::max(back_.size(), steps * segment));

  // From the last step to the first: so the states that follow from one stand side by side.
  for (std::size_t s = 0; s < code.states(); s += segment) {
    const std::size_t tag = s >> (width - bits);
    std::fill_n(&metrics_[place(s)], segment,
                static_cast<std::uint16_t>((after == kAny ? 0 : 0xffff << bits) | tag));
  }
  for (std::size_t tag = 0; after != kAny && tag < std::size_t{1} << bits; ++tag) {
    metrics_[place((tag << (width - bits)) + static_cast<std::size_t>(after))] =
        static_cast<std::uint16_t>(tag);
  }
  ViterbiStep step{};
  step.offsets = code_.offsets_.data();
  step.gap = gap_;
  const std::size_t together = ops.steps[bits - 1] * ops.passes[bits - 1];
  assert(steps % together == 0);
  for (std::size_t end = steps; end > 0; end -= together) {
    for (std::size_t t = 0; t < together; ++t) {
      const std::size_t q = end - 1 - t, at = (first + q) % ring * code.step;
      std::int16_t target[2] = {0, 0};
      for (unsigned i = 0; i < code.step && at + i < x.size(); ++i) {
        target[i] = code_.whole(x[at + i]);
      }
      const std::size_t count = code_.values_[0].size();
      std::uint16_t* const errors = errors_.data() + t * count;
      const bool both = code.step == 2 && at + 1 < x.size();
      if (at < x.size()) {
        ops.errors(code_.values_[0].data(), both ? code_.values_[1].data() : nullptr, count,
                   target[0], target[1], static_cast<int>(bits), errors);
        for (std::size_t e = 0; e < count && code.step == 2 && !both; ++e) {
          errors[e] = static_cast<std::uint16_t>(errors[e] >> (1 + bits) << bits);  // one of a pair
        }
      } else {
        std::fill_n(errors, count, std::uint16_t{0});
      }
      step.errors[t] = errors;
      step.back[t] = &back_[q * segment];
    }
    step.metrics = metrics_.data();
    step.next = next_.data();
    step.base = ops.advance[bits - 1](width, step);
    std::swap(metrics_, next_);
  }

  std::size_t best = 0;
  std::uint16_t best_metric = std::numeric_limits<std::uint16_t>::max();
  const std::size_t stride = low == kAny ? 1 : groups;
  for (std::size_t s = low == kAny ? 0 : static_cast<std::size_t>(low); s < code.states();
       s += stride) {
    const auto metric = static_cast<std::uint16_t>(metrics_[place(s)] >> bits);
    if (metric < best_metric) best = s, best_metric = metric;
  }
  path_.resize(steps);
  for (std::size_t q = 0; q < steps; ++q) {
    path_[q] = static_cast<std::uint32_t>(best);
    const std::size_t j = best >> bits;
    best = j | back(q, steps, j) << (width - bits);
  }
}

std::size_t ViterbiEncoder::back(std::size_t q, std::size_t steps, std::size_t j) const {
  const ViterbiOps& ops = viterbi_ops();
  const unsigned bits = code_.code().step_bits();
  // As take_best() names them: what came in the steps of the pass before, and what is left of the
  // highest bits, choose bits of a byte.
  const std::size_t came = (steps - 1 - q) % ops.steps[bits - 1] * bits;
  const std::size_t places = (std::size_t{1} << segment_bits_) / ops.lanes;
  const std::size_t lane = j % ops.lanes, vector = j / ops.lanes;
  const std::size_t part = vector & ((std::size_t{1} << came) - 1), rest = vector >> came;
  const std::size_t which = rest / places << came | part;
  const std::size_t byte = (q << segment_bits_) + rest % places * ops.lanes + lane;
  return back_[byte] >> (which * bits) & ((std::size_t{1} << bits) - 1);
}

void ViterbiEncoder::encode(std::span<const float> x, std::span<std::uint16_t> symbols) {
  const TrellisCode& code = code_.code();
  const unsigned bits = code.step_bits();
  const std::size_t steps = symbols.size();
  assert(steps % 4 == 0 && steps * bits >= 4 * code.state_bits && x.size() <= steps * code.step);
  const auto shared = static_cast<std::uint32_t>((code.states() >> bits) - 1);
  const auto new_bits = static_cast<std::uint32_t>((1u << bits) - 1);
  best_path(x, steps, 0, steps, kAny, kAny);
  for (std::size_t q = 0; q < steps; ++q)
    symbols[q] = static_cast<std::uint16_t>(path_[q] & new_bits);

  const std::size_t memory = (code.state_bits + bits - 1) / bits;
  const std::size_t side = std::min(kSeamMemories * memory, (steps - memory) / 2) / 2 * 2;
  const std::uint32_t low = path_[steps - side] & shared, after = path_[side] & shared;
  best_path(x, steps, steps - side, 2 * side, low, after);
  for (std::size_t q = 0; q < 2 * side; ++q) {
    symbols[(steps - side + q) % steps] = static_cast<std::uint16_t>(path_[q] & new_bits);
  }
}

std::uint32_t trellis_state(const TrellisCode& code, std::span<const std::uint16_t> symbols,
                            std::size_t q) {
  std::uint32_t state = 0;
  for (unsigned shift = 0; shift < code.state_bits; shift += code.step_bits()) {
    state |= std::uint32_t{symbols[q]} << shift;
    q = q + 1 == symbols.size() ? 0 : q + 1;
  }
  return state & static_cast<std::uint32_t>(code.states() - 1);
}

float trellis_value(const TrellisCode& code, std::span<const std::uint16_t> symbols,
                    std::size_t i) {
  const std::size_t state = trellis_state(code, symbols, i / code.step);
  return code.values[(i % code.step << code.state_bits) + state];
}

void ViterbiPool::encode(std::span<const float> x, std::span<std::uint16_t> symbols) {
  std::unique_ptr<ViterbiEncoder> encoder;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      encoder = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (encoder == nullptr) encoder = std::make_unique<ViterbiEncoder>(code_);
  encoder->encode(x, symbols);
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(encoder));
}

}  // namespace squish::quant
