#include "squish/base/random.h"

#include <cmath>
#include <numbers>

namespace squish {
namespace {

constexpr double kTwoToMinus53 = 0x1p-53;

double to_unit(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t x = (std::uint64_t{high} << 32) | low;
  return static_cast<double>(x >> 11) * kTwoToMinus53;
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::uint64_t counter_low, std::uint64_t counter_high,
                                        std::uint64_t key) {
  std::array<std::uint32_t, 4> c = {
      static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
      static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32)};
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

CounterRng::CounterRng(std::uint64_t seed, std::string_view key)
    : seed_(seed), stream_(0xcbf29ce484222325) {
  for (const char c : key) {  // FNV-1a
    stream_ = (stream_ ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
}

std::uint64_t CounterRng::bits(std::uint64_t i) const {
  const auto w = philox4x32(i, stream_, seed_);
  return (std::uint64_t{w[0]} << 32) | w[1];
}

double CounterRng::uniform(std::uint64_t i) const {
  const auto w = philox4x32(i, stream_, seed_);
  return to_unit(w[0], w[1]);
}

double CounterRng::normal(std::uint64_t i) const {
  const auto w = philox4x32(i, stream_, seed_);
  const double u = 1.0 - to_unit(w[0], w[1]);  // (0, 1]
  const double v = to_unit(w[2], w[3]);
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

std::uint64_t CounterRng::below(std::uint64_t i, std::uint64_t n) const {
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(bits(i)) * n) >> 64);
}

}  // namespace squish
