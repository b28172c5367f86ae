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

// Metrics come from the second-level cache: where there are registers enough, several steps are
// taken on 2^kRadix vectors at a time, a pass.
#if defined(SQUISH_ISA_avx512)
template <int Bits>
constexpr int kSteps = Bits == 1   ? 4
                       : Bits == 2 ? 2
                                   : 1;
#else
template <int Bits>
constexpr int kSteps = Bits == 1 ? 2 : 1;
#endif

// Where a pass takes one step two go place by place through a tile that the first-level cache
// holds; more steps' errors and a tile would not fit there.
template <int Bits>
constexpr int kPasses = kSteps<Bits> == 1 ? 2 : 1;

// Vector (r, inner) of the metrics holds states of highest bits r; those of one `inner` are a
// place.
struct Place {
  unsigned inner_bits;
  std::uint16_t base;
  // As ViterbiStep's; a copy: nothing that is stored can change it.
  const std::uint32_t* offsets;
  const std::uint16_t* errors[4];
  std::uint8_t* back[4];

  std::size_t inner = 0, apart = 0;     // of vectors (r, inner) and (r + 1, inner)
  const std::uint16_t* from = nullptr;  // (0, inner)
  std::uint16_t* to = nullptr;          // of the states that are reached from here
  Words least = Words{} + 0xffff;

  Place(unsigned state_bits, unsigned radix, const ViterbiStep& step, int first)
      : inner_bits(state_bits - radix), base(first == 0 ? step.base : 0), offsets(step.offsets) {
    for (std::size_t w = kWords; w > 1; w /= 2) --inner_bits;
    for (int t = first; t < 4; ++t) {
      errors[t - first] = step.errors[t];
      back[t - first] = step.back[t];
    }
  }
};

// After step t - 1 the vectors of a place are in the order of (rest, part): what is left of the
// highest bits of their states, and the t * Bits lowest, which came. X: what all predecessors share
// of that.
template <int Bits, int Step, std::size_t X, std::size_t... New>
__attribute__((always_inline)) inline void take_best(const Words* from, Words* to, Place& place,
                                                     Words& tags, std::index_sequence<New...>) {
  constexpr bool kFirst = Step == 0, kLast = Step + 1 == kSteps<Bits>;
  constexpr std::size_t kBranches = std::size_t{1} << Bits;
  constexpr unsigned kRadix = Bits * kSteps<Bits>, kCame = Step * Bits;
  constexpr std::size_t kApart = std::size_t{1} << (kRadix - Bits);
  constexpr std::size_t kRest = X >> kCame, kPart = X & ((std::size_t{1} << kCame) - 1);
  constexpr std::uint16_t kTag = kBranches - 1, kCost = 0xffff - kTag;
  const auto predecessor = [&](std::size_t i) {
    const std::size_t r = i * kApart + X;
    return kFirst ? load(place.from + r * place.apart) : from[r];
  };
  Words m = predecessor(0);
  for (std::size_t i = 1; i < kBranches; ++i) m = smaller(m, predecessor(i));
  if constexpr (kLast) place.least = smaller(m, place.least);
  tags |= (m & kTag) << static_cast<int>(X * Bits);

  // The highest bits of the states that are reached from here, all the same.
  std::size_t tag = 0;
  if constexpr (kLast) {
    tag = place.inner >> (place.inner_bits - Bits);
  } else {
    tag = kRest >> (kRadix - kCame - 2 * Bits);
  }
  const Words best = (m & kCost) + static_cast<std::uint16_t>(tag - (kFirst ? place.base : 0));
  // The vector of states that are reached, apart from what is known here: kPart, and what is new.
  const std::size_t came = (kRest << place.inner_bits) + place.inner;
  const auto reach = [&](std::size_t i, Words spread_best) {
    const std::uint32_t offset = place.offsets[(came << (kCame + Bits)) + (kPart << Bits) + i];
    const Words metric = saturating_sum(spread_best, load(place.errors[Step] + offset));
    if constexpr (kLast) {
      *reinterpret_cast<Words*>(place.to + (kPart << Bits | i) * kWords) = metric;
    } else {
      to[X << Bits | i] = metric;
    }
  };
  (reach(New, spread<Bits, New>(best, std::make_index_sequence<kWords>())), ...);
}

template <int Bits, int Step, std::size_t... X>
__attribute__((always_inline)) inline void take_step(const Words* from, Words* to, Place& place,
                                                     std::index_sequence<X...>) {
  static_assert(sizeof...(X) * Bits <= 8);
  Words tags = {};
  (take_best<Bits, Step, X>(from, to, place, tags,
                            std::make_index_sequence<std::size_t{1} << Bits>()),
   ...);
  *reinterpret_cast<Narrow*>(place.back[Step] + place.inner * kWords) =
      __builtin_convertvector(tags, Narrow);
}

template <int Bits>
__attribute__((always_inline)) inline void pass(Place& place) {
  constexpr std::size_t kVectors = std::size_t{1} << Bits * kSteps<Bits>;
  using Groups = std::make_index_sequence<(kVectors >> Bits)>;
  Words a[kVectors], b[kVectors];
  take_step<Bits, 0>(a, b, place, Groups());
  if constexpr (kSteps<Bits> >= 2) take_step<Bits, 1>(b, a, place, Groups());
  if constexpr (kSteps<Bits> == 4) {
    take_step<Bits, 2>(a, b, place, Groups());
    take_step<Bits, 3>(b, a, place, Groups());
  }
}

template <int Bits>
std::uint16_t advance(unsigned state_bits, const ViterbiStep& step) {
  constexpr unsigned kRadix = Bits * kSteps<Bits>;
  constexpr std::size_t kVectors = std::size_t{1} << kRadix;
  Place first(state_bits, kRadix, step, 0);
  first.apart = (kWords << first.inner_bits) + step.gap;
  const std::size_t places = std::size_t{1} << first.inner_bits;
  std::uint16_t* to = step.next;
  // Where the next place's states go: behind a gap where its highest bits are others.
  const auto advance_to = [&](std::size_t inner) {
    if (inner != 0 && (inner << kRadix & (places - 1)) == 0) to += step.gap;
    std::uint16_t* const here = to;
    to += kVectors * kWords;
    return here;
  };
  Words least;
  if constexpr (kPasses<Bits> == 1) {
    for (; first.inner < places; ++first.inner) {
      first.from = step.metrics + first.inner * kWords;
      first.to = advance_to(first.inner);
      pass<Bits>(first);
    }
    least = first.least;
  } else {
    alignas(64) std::uint16_t tile[kVectors * kVectors * kWords];
    Place second(state_bits, kRadix, step, kSteps<Bits>);
    second.apart = kVectors * kWords;
    const std::size_t tiles = places >> kRadix;
    for (std::size_t t = 0; t < tiles; ++t) {
      for (std::size_t m = 0; m < kVectors; ++m) {
        first.inner = m * tiles + t;
        first.from = step.metrics + first.inner * kWords;
        first.to = tile + m * kVectors * kWords;
        pass<Bits>(first);
      }
      for (std::size_t p = 0; p < kVectors; ++p) {
        second.inner = t * kVectors + p;
        second.from = tile + p * kWords;
        second.to = advance_to(second.inner);
        pass<Bits>(second);
      }
    }
    least = second.least;
  }
  std::uint16_t lowest = 0xffff;
  for (std::size_t l = 0; l < kWords; ++l) lowest = least[l] < lowest ? least[l] : lowest;
  lowest = static_cast<std::uint16_t>(lowest >> Bits << Bits);
  return lowest;
}

}  // namespace

extern const ViterbiOps kViterbiOps;
const ViterbiOps kViterbiOps = {kWords,
                                errors,
                                {kSteps<1>, kSteps<2>, kSteps<3>, kSteps<4>},
                                {kPasses<1>, kPasses<2>, kPasses<3>, kPasses<4>},
                                {advance<1>, advance<2>, advance<3>, advance<4>}};

}  // namespace squish::quant::SQUISH_ISA_NAMESPACE
