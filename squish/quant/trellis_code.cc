#include "squish/quant/trellis_code.h"

#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <string>

#include "squish/base/error.h"
#include "squish/base/half.h"

namespace squish::quant {
namespace {

constexpr unsigned kPublishedStateBits = 16;

/// Values of all 16-bit states, to unit mean square.
template <class Value>
std::vector<float> computed(const Value& value) {
  std::vector<float> values(std::size_t{1} << kPublishedStateBits);
  double sum = 0;
  for (std::uint32_t x = 0; x < values.size(); ++x) {
    values[x] = value(x);
    sum += double{values[x]} * values[x];
  }
  const double rms = std::sqrt(sum / static_cast<double>(values.size()));
  for (float& v : values) v = static_cast<float>(v / rms);
  return values;
}

float one_mad(std::uint32_t x) {
  const std::uint32_t z = 34038481 * x + 76625530;
  const std::uint32_t sum = (z & 255) + (z >> 8 & 255) + (z >> 16 & 255) + (z >> 24);
  return static_cast<float>(sum) - 510;
}

float three_inst(std::uint32_t x) {
  const std::uint32_t z = 89226354 * x + 64248484, u = (z & 0x8FFF8FFF) ^ 0x3B603B60;
  // The reference adds halves.
  return from_f16(to_f16(from_f16(static_cast<std::uint16_t>(u >> 16)) +
                         from_f16(static_cast<std::uint16_t>(u))));
}

// Found by bench/trellis/search.cc as docs/methods/trellis.md says.
// clang-format off
constexpr LinearHashCode kHashCodes[4] = {
    // 1 bits: seed 11, 5.763 dB over streams of 256.
    {16, {165, 185, 33, 231, 49, 86, 243, 206}, {{43, -18, -86, 25, 18, -58, -9, 61, -27, -4, 1, 87, -32, 20, 29, -49}, {-23, -2, 38, -17, 10, -29, 21, -5, 23, 17, 9, -11, -40, 5, 8, -4}}, 0.0182419997f},
    // 2 bits: seed 30, 11.651 dB over streams of 256.
    {16, {120, 9, 193, 143, 152, 25, 2, 42}, {{55, -85, -18, 8, -5, -39, 34, 40, -24, 20, -55, -11, 26, -34, 86, 5}, {2, -25, 10, -9, 19, 28, -11, -1, -17, -3, 8, 16, -20, 6, -41, 40}}, 0.0216816068f},
    // 3 bits: seed 14, 17.547 dB over streams of 256.
    {16, {105, 68, 210, 118, 47, 93, 106, 17}, {{7, 60, 25, -41, -7, -13, -31, -61, -18, 42, 12, 18, -25, 31, 2, -3}, {17, 4, -17, -6, 22, 9, -32, 12, -10, -22, 0, 33, 0, -4, 6, -12}, {5, 21, -32, -4, -7, 6, 9, -12, 32, -17, 16, -1, -21, 2, -9, 12}}, 0.0262977313f},
    // 4 bits: seed 14, 23.354 dB over streams of 256.
    {16, {105, 68, 210, 118, 47, 93, 106, 17}, {{7, 60, 25, -42, -8, -13, -31, -60, -18, 42, 13, 18, -25, 32, 3, -2}, {17, 4, -17, -7, 22, 10, -32, 13, -9, -22, 1, 33, -2, -4, 7, -13}, {4, 22, -33, -4, -7, 6, 9, -13, 33, -17, 16, -1, -22, 1, -10, 13}}, 0.0257161856f},
};
constexpr LinearHashCode kFastCodes[4] = {
    // 1 bits: seed 11, 5.655 dB over streams of 256.
    {12, {165, 185, 33, 231, 0, 0, 0, 0}, {{51, -23, -81, 26, 11, -59, -14, 58, -29, 3, -2, 87, -33, 22, 37, -47}, {-27, 0, 39, -14, 6, -29, 18, -8, 23, 22, 6, -6, -45, 3, 17, -3}}, 0.0182047989f},
    // 2 bits: seed 11, 11.436 dB over streams of 256.
    {12, {165, 185, 33, 231, 0, 0, 0, 0}, {{45, -18, -84, 21, 15, -53, -13, 54, -25, -1, 8, 84, -33, 16, 34, -43}, {-25, -5, 42, -15, 7, -26, 21, -7, 27, 16, 6, -12, -41, 3, 10, -1}}, 0.021771308f},
    // 3 bits: seed 11, 17.216 dB over streams of 256.
    {12, {165, 185, 33, 231, 0, 0, 0, 0}, {{35, -15, -72, 21, 8, -45, -8, 49, -18, -3, 3, 72, -28, 15, 28, -38}, {-14, -3, 26, -12, 4, -17, 13, -5, 19, 10, 6, -8, -27, 2, 8, -1}, {10, -8, -11, -5, -2, 19, -2, 5, -27, 2, 4, -14, 14, 7, 25, -18}}, 0.0255923942f},
    // 4 bits: seed 25, 23.050 dB over streams of 256.
    {13, {142, 37, 179, 218, 120, 0, 0, 0}, {{-20, 69, -35, 2, 15, 8, 27, -27, -46, 35, 46, -3, -14, -69, 20, -9}, {-3, 18, -14, -28, -19, -11, 11, 5, 4, -8, 14, -2, -5, 9, 1, 29}, {-8, -28, 29, -3, 15, 11, 19, -19, 5, 8, -2, 1, -11, -14, -5, 4}}, 0.0253751557f},
};
// clang-format on

TrellisCode make_code(std::string_view name, unsigned bits) {
  if (name == "1mad") return {bits, kPublishedStateBits, 1, computed(one_mad)};
  if (name == "3inst") return {bits, kPublishedStateBits, 1, computed(three_inst)};
  if (name == "hyb") return hyb_code(bits);
  return linear_hash_code(name, bits).expand(bits);
}

}  // namespace

const LinearHashCode& linear_hash_code(std::string_view name, unsigned bits) {
  if (name == "hash") return kHashCodes[bits - 1];
  if (name == "fast") return kFastCodes[bits - 1];
  fail("unknown trellis code {}", name);
}

int LinearHashCode::hash(std::uint32_t state) const {
  int hash = static_cast<int>(state & 255);
  for (std::uint32_t rest = state >> 8; rest != 0; rest &= rest - 1) {
    hash ^= columns[std::countr_zero(rest)];
  }
  return hash;
}

int LinearHashCode::value(std::uint32_t state) const {
  const int h = hash(state);
  return tables[0][h & 15] + tables[1][h >> 4] + tables[2][state >> 4 & 15];
}

TrellisCode LinearHashCode::expand(unsigned bits) const {
  TrellisCode code{bits, state_bits, 1, {}};
  for (std::uint32_t s = 0; s < code.states(); ++s) {
    code.values.push_back(unit * static_cast<float>(value(s)));
  }
  return code;
}

const TrellisCode& trellis_code(std::string_view name, unsigned bits) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, unsigned>, TrellisCode> codes;
  const std::lock_guard lock(mutex);
  const std::pair key(std::string(name), bits);
  const auto known = codes.find(key);
  return known != codes.end() ? known->second
                              : codes.emplace(key, make_code(name, bits)).first->second;
}

}  // namespace squish::quant
