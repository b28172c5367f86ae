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

#if defined(SQUISH_ISA_avx512)
#define SQUISH_VECTOR(operation) _mm512_##operation
typedef __m512i Register;
#elif defined(SQUISH_ISA_avx2)
#define SQUISH_VECTOR(operation) _mm256_##operation
typedef __m256i Register;
#else
#define SQUISH_VECTOR(operation) _mm_##operation
typedef __m128i Register;
#endif

Words saturating_sum(Words a, Words b) {
  return reinterpret_cast<Words>(
      SQUISH_VECTOR(adds_epu16)(reinterpret_cast<Register>(a), reinterpret_cast<Register>(b)));
}

// ((2 (x - v))^2 >> 16), the difference and its double clamped to 16 bits.
Words square(Register x, const std::int16_t* v) {
  const Register difference = SQUISH_VECTOR(subs_epi16)(x, *reinterpret_cast<const Register*>(v));
  const Register twice = SQUISH_VECTOR(adds_epi16)(difference, difference);
  // -2^15 squared is beyond 14 bits.
  return smaller(reinterpret_cast<Words>(SQUISH_VECTOR(mulhi_epi16)(twice, twice)),
                 Words{} + 0x3fff);
}

void errors(const std::int16_t* a, const std::int16_t* b, std::size_t n, std::int16_t x0,
            std::int16_t x1, int bits, std::uint16_t* out) {
  const Register first = SQUISH_VECTOR(set1_epi16)(x0), second = SQUISH_VECTOR(set1_epi16)(x1);
  const auto mask = static_cast<std::uint16_t>(0xffff << (bits > 2 ? bits - 2 : 0));
  const int shift = bits < 2 ? bits : 2;
  for (std::size_t i = 0; i < n; i += kWords) {
    Words e = square(first, a + i);
    if (b != nullptr) e = (e + square(second, b + i)) >> 1;
    *reinterpret_cast<Words*>(out + i) = (e & mask) << shift;
  }
}

// Lane l of part `Part` is lane (Part * kWords + l) >> Bits of v: each lane 2^Bits times.
template <int Bits, std::size_t Part, std::size_t... Lane>
Words spread(Words v, std::index_sequence<Lane...>) {
  return __builtin_shufflevector(v, v, ((Part * kWords + Lane) >> Bits)...);
}

// Metrics come from the second-level cache, whose speed is the limit: where there are registers
// enough, several steps are taken on 2^kRadix vectors at a time.
#if defined(SQUISH_ISA_avx512)
template <int Bits>
constexpr int kSteps = Bits == 1   ? 4
                       : Bits == 2 ? 2
                                   : 1;
#else
template <int Bits>
constexpr int kSteps = Bits == 1 ? 2 : 1;
#endif

// Vector (r, inner) of the metrics holds states of highest bits r; those of one `inner` are a
// place.
struct Place {
  ViterbiStep step;  // a copy: nothing that is stored can change it
  unsigned inner_bits;
  std::size_t inner;
  Words least;
};

// After step t - 1 the vectors of a place are in the order of (rest, part): what is left of the
// highest bits of their states, and the t * Bits lowest, which came. X: what all predecessors share
// of that.
template <int Bits, int Step, std::size_t X, std::size_t... New>
__attribute__((always_inline)) inline void take_best(const Words* from, Words* to, Place& place,
                                                     std::index_sequence<New...>) {
  constexpr bool kFirst = Step == 0, kLast = Step + 1 == kSteps<Bits>;
  constexpr std::size_t kBranches = std::size_t{1} << Bits;
  constexpr unsigned kRadix = Bits * kSteps<Bits>, kCame = Step * Bits;
  constexpr std::size_t kApart = std::size_t{1} << (kRadix - Bits);
  constexpr std::size_t kRest = X >> kCame, kPart = X & ((std::size_t{1} << kCame) - 1);
  constexpr std::uint16_t kTag = kBranches - 1, kCost = 0xffff - kTag;
  const ViterbiStep& step = place.step;

  const auto predecessor = [&](std::size_t i) {
    const std::size_t r = i * kApart + X;
    return kFirst ? load(step.metrics + ((r << place.inner_bits) + place.inner) * kWords) : from[r];
  };
  Words m = predecessor(0);
  for (std::size_t i = 1; i < kBranches; ++i) m = smaller(m, predecessor(i));
  if constexpr (kLast) place.least = smaller(m, place.least);
  const std::size_t group = kRest << (place.inner_bits + kCame) | place.inner << kCame | kPart;
  *reinterpret_cast<Narrow*>(step.back[Step] + group * kWords) =
      __builtin_convertvector(m & kTag, Narrow);

  // The highest bits of the states that are reached from here, all the same.
  std::size_t tag = 0;
  if constexpr (kLast) {
    tag = place.inner >> (place.inner_bits - Bits);
  } else {
    tag = kRest >> (kRadix - kCame - 2 * Bits);
  }
  const Words best = (m & kCost) + static_cast<std::uint16_t>(tag - (kFirst ? step.base : 0));
  const auto reach = [&](std::size_t i, Words spread_best) {
    const std::size_t state = group << Bits | i;
    const Words metric = saturating_sum(spread_best, load(step.errors[Step] + step.offsets[state]));
    if constexpr (kLast) {
      *reinterpret_cast<Words*>(step.next + state * kWords) = metric;
    } else {
      to[X << Bits | i] = metric;
    }
  };
  (reach(New, spread<Bits, New>(best, std::make_index_sequence<kWords>())), ...);
}

template <int Bits, int Step, std::size_t... X>
__attribute__((always_inline)) inline void take_step(const Words* from, Words* to, Place& place,
                                                     std::index_sequence<X...>) {
  (take_best<Bits, Step, X>(from, to, place, std::make_index_sequence<std::size_t{1} << Bits>()),
   ...);
}

template <int Bits>
std::uint16_t advance(unsigned state_bits, const ViterbiStep& step) {
  constexpr unsigned kRadix = Bits * kSteps<Bits>;
  constexpr std::size_t kVectors = std::size_t{1} << kRadix;
  using Groups = std::make_index_sequence<(kVectors >> Bits)>;
  Place place{step, state_bits - kRadix, 0, Words{} + 0xffff};
  for (std::size_t w = kWords; w > 1; w /= 2) --place.inner_bits;
  for (; place.inner < std::size_t{1} << place.inner_bits; ++place.inner) {
    Words a[kVectors], b[kVectors];
    take_step<Bits, 0>(a, b, place, Groups());
    if constexpr (kSteps<Bits> >= 2) take_step<Bits, 1>(b, a, place, Groups());
    if constexpr (kSteps<Bits> == 4) {
      take_step<Bits, 2>(a, b, place, Groups());
      take_step<Bits, 3>(b, a, place, Groups());
    }
  }
  std::uint16_t least = 0xffff;
  for (std::size_t l = 0; l < kWords; ++l) least = place.least[l] < least ? place.least[l] : least;
  least = static_cast<std::uint16_t>(least >> Bits << Bits);
  return kSteps<Bits> == 1 ? static_cast<std::uint16_t>(least - step.base) : least;
}

}  // namespace

extern const ViterbiOps kViterbiOps;
const ViterbiOps kViterbiOps = {kWords,
                                errors,
                                {kSteps<1>, kSteps<2>, kSteps<3>, kSteps<4>},
                                {advance<1>, advance<2>, advance<3>, advance<4>}};

}  // namespace squish::quant::SQUISH_ISA_NAMESPACE
