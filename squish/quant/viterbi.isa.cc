#include "squish/quant/viterbi.isa.h"

#include <immintrin.h>

#include <utility>

#include "squish/base/lanes.isa.h"

namespace squish::quant::SQUISH_ISA_NAMESPACE {
namespace {

using squish::SQUISH_ISA_NAMESPACE::kLanes;

constexpr std::size_t kWords = 2 * kLanes;
typedef std::uint16_t Words __attribute__((vector_size(2 * kWords), may_alias));
typedef std::uint8_t Narrow __attribute__((vector_size(kWords), may_alias));

Words load(const std::uint16_t* p) { return *reinterpret_cast<const Words*>(p); }
Words smaller(Words a, Words b) { return a < b ? a : b; }

Words saturating_sum(Words a, Words b) {
#if defined(SQUISH_ISA_avx512)
  return reinterpret_cast<Words>(
      _mm512_adds_epu16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(SQUISH_ISA_avx2)
  return reinterpret_cast<Words>(
      _mm256_adds_epu16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return reinterpret_cast<Words>(
      _mm_adds_epu16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#endif
}

void errors(const float* a, const float* b, std::size_t n, float x0, float x1, float cap, int bits,
            std::uint16_t* out) {
  if (b == nullptr) {
#pragma omp simd
    for (std::size_t i = 0; i < n; ++i) {
      const float d = x0 - a[i], square = d * d, e = square < cap ? square : cap;
      out[i] = static_cast<std::uint16_t>(static_cast<std::int32_t>(e + 0.5f) << bits);
    }
    return;
  }
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float d0 = x0 - a[i], d1 = x1 - b[i], square = d0 * d0 + d1 * d1;
    const float e = square < cap ? square : cap;
    out[i] = static_cast<std::uint16_t>(static_cast<std::int32_t>(e + 0.5f) << bits);
  }
}

// Lane l of part `Part` is lane (Part * kWords + l) >> Bits of v: each lane 2^Bits times.
template <int Bits, std::size_t Part, std::size_t... Lane>
Words spread(Words v, std::index_sequence<Lane...>) {
  return __builtin_shufflevector(v, v, ((Part * kWords + Lane) >> Bits)...);
}

template <int Bits, std::size_t... Part>
void continue_paths(Words best, const std::uint16_t* errors, const std::uint32_t* offsets,
                    std::uint16_t* next, std::index_sequence<Part...>) {
  ((*reinterpret_cast<Words*>(next + Part * kWords) =
        saturating_sum(spread<Bits, Part>(best, std::make_index_sequence<kWords>()),
                       load(errors + offsets[Part]))),
   ...);
}

template <int Bits>
std::uint16_t step(unsigned state_bits, const std::uint16_t* metrics, std::uint16_t base,
                   const std::uint16_t* errors, const std::uint32_t* offsets, std::uint16_t* next,
                   std::uint8_t* back) {
  constexpr std::size_t kBranches = std::size_t{1} << Bits;
  constexpr std::uint16_t kTag = kBranches - 1, kCost = 0xffff - kTag;
  const std::size_t groups = std::size_t{1} << (state_bits - Bits);
  Words least = Words{} + 0xffff;
  for (std::size_t j = 0; j < groups; j += kWords) {
    Words m = load(metrics + j);
    for (std::size_t i = 1; i < kBranches; ++i) m = smaller(m, load(metrics + j + i * groups));
    least = smaller(m, least);
    *reinterpret_cast<Narrow*>(back + j) = __builtin_convertvector(m & kTag, Narrow);
    // The states that are reached from here share their highest bits.
    const auto tag = static_cast<std::uint16_t>(j >> (state_bits - 2 * Bits));
    const Words best = (m & kCost) + static_cast<std::uint16_t>(tag - base);
    continue_paths<Bits>(best, errors, offsets + j / kWords * kBranches, next + j * kBranches,
                         std::make_index_sequence<kBranches>());
  }
  std::uint16_t result = 0xffff;
  for (std::size_t l = 0; l < kWords; ++l) result = least[l] < result ? least[l] : result;
  return result & kCost;
}

}  // namespace

extern const ViterbiOps kViterbiOps;
const ViterbiOps kViterbiOps = {kWords, errors, {step<1>, step<2>, step<3>, step<4>}};

}  // namespace squish::quant::SQUISH_ISA_NAMESPACE
