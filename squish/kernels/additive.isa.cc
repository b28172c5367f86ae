#include "squish/kernels/additive.isa.h"

#include "squish/base/lanes.isa.h"

#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
#include <immintrin.h>
#endif

namespace squish::kernels::SQUISH_ISA_NAMESPACE {
namespace {

using namespace squish::SQUISH_ISA_NAMESPACE;

typedef float Lanes __attribute__((vector_size(4 * kEntryLanes), aligned(4), may_alias));

constexpr std::size_t kChunk = 128;  // steps whose codes are unpacked at a time
#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
constexpr bool kHalves = true;
#else
constexpr bool kHalves = false;
#endif

/// Where the entries of a book are, by the codes of a line.
class Offsets {
 public:
  Offsets() = default;
  Offsets(unsigned code_bits, const AdditiveBook& book)
      : stride_(code_bits),
        first_bit_(book.first_bit),
        bits_(book.bits),
        entry_shift_(book.entry_shift) {
#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
    // Eight at a time: in each half of a register four of one load, a dword each.
    alignas(32) std::uint8_t pick[32];
    alignas(32) std::uint32_t shift[8];
    for (unsigned j = 0; j < 8; ++j) {
      const unsigned bit = j % 4 * stride_ + first_bit_ + (j < 4 ? 0 : 4 * stride_ % 8);
      shift[j] = bit % 8;
      for (unsigned b = 0; b < 4; ++b) {
        const bool some = bit / 8 + b <= (bit + bits_ - 1) / 8;
        pick[4 * j + b] = static_cast<std::uint8_t>(some ? bit / 8 + b : 128);
      }
    }
    pick_ = _mm256_load_si256(reinterpret_cast<const __m256i*>(pick));
    shift_ = _mm256_load_si256(reinterpret_cast<const __m256i*>(shift));
#endif
  }

  /// From `codes`, of which `bytes` may be read, `count` offsets.
  void find(const std::uint8_t* codes, [[maybe_unused]] std::size_t bytes, std::size_t count,
            std::uint32_t* out) const {
    std::size_t j = 0;
#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
    const std::size_t second = 4 * stride_ / 8, stride = stride_;
    const __m256i mask = _mm256_set1_epi32((1 << bits_) - 1), pick = pick_, shift = shift_;
    const __m128i left = _mm_cvtsi32_si128(static_cast<int>(entry_shift_));
    const std::size_t whole = stride <= 32 ? count / 8 * 8 : 0;
    const std::uint8_t* from = codes;
    for (; j < whole && from + second + 16 <= codes + bytes; j += 8, from += stride) {
      const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
      const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + second));
      __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
      v = _mm256_srlv_epi32(_mm256_shuffle_epi8(v, pick), shift);
      v = _mm256_sll_epi32(_mm256_and_si256(v, mask), left);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + j), v);
    }
#endif
    for (; j < count; ++j) out[j] = find(codes, j);
  }

 private:
  std::uint32_t find(const std::uint8_t* codes, std::size_t j) const {
    const std::size_t bit = j * stride_ + first_bit_;
    std::uint32_t window = 0;
    for (std::size_t b = bit / 8; b <= (bit + bits_ - 1) / 8; ++b) {
      window |= std::uint32_t{codes[b]} << (8 * (b - bit / 8));
    }
    return (window >> (bit % 8) & ((1u << bits_) - 1)) << entry_shift_;
  }

  unsigned stride_, first_bit_, bits_, entry_shift_;
#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
  __m256i pick_, shift_;
#endif
};

const Lanes& lanes(const float* p) { return *reinterpret_cast<const Lanes*>(p); }

/// sum += factor * entry.
template <bool Half, int Vectors>
void add_entry(const std::byte* entry, const Lanes* factor, Lanes* sum) {
  for (std::size_t v = 0; v < Vectors; ++v) {
#if defined(SQUISH_ISA_avx2) || defined(SQUISH_ISA_avx512)
    if constexpr (Half) {
      const auto* const halves = reinterpret_cast<const __m128i*>(entry) + v;
      sum[v] += factor[v] * static_cast<Lanes>(_mm256_cvtph_ps(_mm_loadu_si128(halves)));
      continue;
    }
#endif
    sum[v] += factor[v] * lanes(reinterpret_cast<const float*>(entry) + kEntryLanes * v);
  }
}

/// The factors of a step.
template <bool Spread, int Vectors>
struct Factors {
  Lanes of[Vectors];
  Factors(const float* x, std::size_t j) {
    for (std::size_t v = 0; v < Vectors; ++v) {
      of[v] = Spread ? Lanes{} + x[j] : lanes(x + (Vectors * j + v) * kEntryLanes);
    }
  }
};

/// Adds the entries of one book, steps [0, steps), to the sums of some lines.
template <bool Half, bool Spread, int Vectors>
void add_entries(const std::byte* entries, const std::uint32_t (*at)[kChunk], const float* x,
                 std::size_t steps, Lanes* sum) {
  constexpr std::size_t kLines = AdditiveOps::lines(Vectors);
  Lanes s[kLines * Vectors];
  for (std::size_t i = 0; i < kLines * Vectors; ++i) s[i] = sum[i];
  std::size_t j = 0;
  for (; j + 2 <= steps; j += 2) {
    const Factors<Spread, Vectors> first(x, j), second(x, j + 1);
    for (std::size_t l = 0; l < kLines; ++l) {
      std::uint64_t two;  // fewer loads, of which there are the most
      __builtin_memcpy(&two, at[l] + j, 8);
      add_entry<Half, Vectors>(entries + static_cast<std::uint32_t>(two), first.of,
                               s + l * Vectors);
      add_entry<Half, Vectors>(entries + (two >> 32), second.of, s + l * Vectors);
    }
  }
  if (j < steps) {
    const Factors<Spread, Vectors> last(x, j);
    for (std::size_t l = 0; l < kLines; ++l) {
      add_entry<Half, Vectors>(entries + at[l][j], last.of, s + l * Vectors);
    }
  }
  for (std::size_t i = 0; i < kLines * Vectors; ++i) sum[i] = s[i];
}

/// Whether add_bytes() will do: a byte for each of one or two books, of floats.
bool bytes_of_floats(const AdditivePart& part) {
  bool will_do = part.books <= 2 && part.code_bits == 8 * part.books;
  for (std::size_t b = 0; b < part.books; ++b) {
    will_do = will_do && part.book[b].bits == 8 && !part.book[b].halves;
  }
  return will_do;
}

/// Adds the entries of all books to the sums of some lines, without unpacking; of as many steps as
/// there are whole fours of, which is returned.
template <int Books>
std::size_t add_bytes(const AdditivePart& part, const std::uint8_t* const* lines, Lanes* sum) {
  constexpr std::size_t kLines = AdditiveOps::lines(1);
  const std::byte* const first = part.book[0].entries;
  const std::byte* const second = part.book[Books - 1].entries;
  Lanes s[kLines];
  for (std::size_t l = 0; l < kLines; ++l) s[l] = sum[l];
  std::size_t j = 0;
  for (; j + 4 <= part.steps; j += 4) {
    Lanes factor[4];
    for (std::size_t i = 0; i < 4; ++i) factor[i] = lanes(part.x + (j + i) * kEntryLanes);
#pragma GCC unroll 8
    for (std::size_t l = 0; l < kLines; ++l) {
      std::uint64_t codes = 0;
      __builtin_memcpy(&codes, lines[l] + Books * j, 4 * Books);
#pragma GCC unroll 4
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t a = codes >> (8 * Books * i) & 255;
        s[l] += factor[i] * lanes(reinterpret_cast<const float*>(first) + kEntryLanes * a);
        if constexpr (Books == 2) {
          const std::size_t b = codes >> (16 * i + 8) & 255;
          s[l] += factor[i] * lanes(reinterpret_cast<const float*>(second) + kEntryLanes * b);
        }
      }
    }
  }
  for (std::size_t l = 0; l < kLines; ++l) sum[l] = s[l];
  return j;
}

template <bool Spread, int Vectors>
void multiply(const AdditivePart& part, std::size_t begin, std::size_t end, float* out) {
  constexpr std::size_t kLines = AdditiveOps::lines(Vectors);
  alignas(64) std::uint32_t at[kLines][kChunk];
  Offsets offsets[kMostBooks];
  for (std::size_t b = 0; b < part.books; ++b) {
    offsets[b] = Offsets(part.code_bits, part.book[b]);
  }
  const bool bytes = bytes_of_floats(part);
  for (std::size_t first = begin; first < end; first += kLines) {
    Lanes sum[kLines * Vectors] = {};
    std::size_t j = 0;
    if constexpr (!Spread && Vectors == 1) {
      if (bytes) {
        const std::uint8_t* lines[kLines];
        for (std::size_t l = 0; l < kLines; ++l) {
          lines[l] = part.codes + smaller(first + l, end - 1) * part.line_bytes;
        }
        j = part.books == 1 ? add_bytes<1>(part, lines, sum) : add_bytes<2>(part, lines, sum);
      }
    }
    for (; j < part.steps; j += kChunk) {
      const std::size_t steps = smaller(kChunk, part.steps - j);
      const float* const x = part.x + (Spread ? j : j * Vectors * kEntryLanes);
      for (std::size_t b = 0; b < part.books; ++b) {
        for (std::size_t l = 0; l < kLines; ++l) {
          const std::size_t line = smaller(first + l, end - 1);
          const std::size_t byte = line * part.line_bytes + j * part.code_bits / 8;
          offsets[b].find(part.codes + byte, part.bytes - byte, steps, at[l]);
        }
        const std::byte* const entries = part.book[b].entries;
        if (part.book[b].halves) {
          add_entries<true, Spread, Vectors>(entries, at, x, steps, sum);
        } else {
          add_entries<false, Spread, Vectors>(entries, at, x, steps, sum);
        }
      }
    }
    for (std::size_t l = 0; l < smaller(kLines, end - first); ++l) {
      for (std::size_t i = 0; i < Vectors * kEntryLanes; ++i) {
        out[(first - begin + l) * Vectors * kEntryLanes + i] =
            sum[l * Vectors + i / kEntryLanes][i % kEntryLanes];
      }
    }
  }
}

}  // namespace

extern const AdditiveOps kAdditiveOps;
const AdditiveOps kAdditiveOps = {kHalves,
                                  {{multiply<false, 1>, multiply<false, 2>, multiply<false, 4>},
                                   {multiply<true, 1>, multiply<true, 2>, nullptr}}};

}  // namespace squish::kernels::SQUISH_ISA_NAMESPACE
