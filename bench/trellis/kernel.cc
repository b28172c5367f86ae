// Prototypes of y = W x straight from the bytes of trellis.cc (codes "hash" and "fast", x in int8,
// y in the tables' integers): what the decoding of a code costs on three levels of instruction
// sets, for the frontier in docs/trellis.md. Each is checked against the definition.
//   trellis_kernel ROWS COLS [SECONDS]
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "squish/base/random.h"
#include "squish/quant/trellis_code.h"

namespace squish::quant {
namespace {

constexpr std::size_t kBlock = 64;

/// A matrix of whole blocks and streams, random codes.
struct Problem {
  std::size_t rows, cols, bits, stream_groups;
  std::vector<std::uint8_t> codes;
  std::vector<std::int8_t> x;
  const LinearHashCode* code;

  const std::uint8_t* group(std::size_t g) const { return codes.data() + g * cols * bits; }
  /// The one that follows in its ring.
  std::size_t after(std::size_t g) const {
    return (g + 1) % stream_groups == 0 ? g + 1 - stream_groups : g + 1;
  }
};

/// The definition: row `row` of y.
std::int32_t row_by_definition(const Problem& p, std::size_t row) {
  std::int32_t sum = 0;
  for (std::size_t j = 0; j < p.cols; ++j) {
    std::uint64_t window = 0;
    std::size_t g = row / 8;
    for (std::size_t b = 0; b < p.bits + 2; ++b) {
      const std::size_t at = j / kBlock * kBlock * p.bits + b % p.bits * kBlock + j % kBlock;
      window |= std::uint64_t{p.group(g)[at]} << (8 * b);
      if ((b + 1) % p.bits == 0) g = p.after(g);
    }
    const auto state = static_cast<std::uint32_t>(window >> (p.bits * (row % 8))) &
                       ((1u << p.code->state_bits) - 1);
    sum += p.code->value(state) * p.x[j];
  }
  return sum;
}

/// The bytes that the windows of a group's rows lie in: `Bits` of its own and two more.
template <int Bits>
struct Sources {
  const std::uint8_t* bytes[Bits + 2];

  Sources(const Problem& p, std::size_t g) {
    for (std::size_t b = 0; b < Bits + 2; ++b) {
      bytes[b] = p.group(g) + b % Bits * kBlock;
      if ((b + 1) % Bits == 0) g = p.after(g);
    }
  }
};

/// 8 x 8 bit matrices that take the bytes of a window to its hash, for each shift of the window in
/// its first byte, and to bits 4 to 7 of the state; a row for gf2p8affineqb is a byte, bit 7's
/// first.
struct Matrices {
  std::uint64_t hash[8][3] = {}, nibble[8][2] = {};

  explicit Matrices(const LinearHashCode& code) {
    for (unsigned shift = 0; shift < 8; ++shift) {
      for (unsigned bit = 0; bit < 8; ++bit) {
        std::uint32_t row = 1u << bit;
        for (unsigned b = 0; b + 8 < code.state_bits; ++b) {
          row |= static_cast<std::uint32_t>(code.columns[b] >> bit & 1) << (8 + b);
        }
        row <<= shift;
        for (unsigned q = 0; q < 3; ++q) {
          hash[shift][q] |= std::uint64_t{row >> (8 * q) & 255} << (8 * (7 - bit));
        }
        const std::uint32_t picked = bit < 4 ? 1u << (shift + 4 + bit) : 0;
        for (unsigned q = 0; q < 2; ++q) {
          nibble[shift][q] |= std::uint64_t{picked >> (8 * q) & 255} << (8 * (7 - bit));
        }
      }
    }
  }
};

struct Tables {
  Matrices matrices;
  std::uint8_t sums[256];  // tables 0 and 1 by the hash, 128 more: unsigned
  std::int8_t third[16];
  std::uint8_t low[16], high[16];  // the hash of the second byte's halves

  explicit Tables(const LinearHashCode& code) : matrices(code) {
    for (int h = 0; h < 256; ++h) {
      sums[h] = static_cast<std::uint8_t>(code.tables[0][h & 15] + code.tables[1][h >> 4] + 128);
    }
    for (std::uint32_t n = 0; n < 16; ++n) {
      third[n] = code.tables[2][n];
      const std::uint32_t mask = (1u << code.state_bits) - 1;
      low[n] = static_cast<std::uint8_t>(code.hash(n << 8 & mask));
      high[n] = static_cast<std::uint8_t>(code.hash(n << 12 & mask));
    }
  }
};

// Lambdas would not take over the target of the function around them.
#define SQUISH_AVX2 __attribute__((target("avx2"))) inline
#define SQUISH_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,gfni"))) inline

SQUISH_AVX512 __m512i table_512(const void* table) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(table)));
}
SQUISH_AVX512 __m512i through(__m512i bytes, std::uint64_t matrix) {
  return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(static_cast<long long>(matrix)), 0);
}
SQUISH_AVX2 __m256i table_256(const void* table) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(table)));
}
SQUISH_AVX2 __m256i high_halves(__m256i a) {
  return _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15));
}

/// Groups [begin, end) of y; Vbmi: the 256 sums in one table of four registers, else two of 16.
template <int Bits, bool Third, bool Vbmi>
SQUISH_AVX512 void product_512(const Problem& p, const Tables& tables, std::size_t begin,
                               std::size_t end, std::int32_t* y) {
  const __m512i s0 = _mm512_loadu_si512(tables.sums), s1 = _mm512_loadu_si512(tables.sums + 64),
                s2 = _mm512_loadu_si512(tables.sums + 128),
                s3 = _mm512_loadu_si512(tables.sums + 192);
  const __m512i third = table_512(tables.third), first = table_512(p.code->tables[0]),
                second = _mm512_add_epi8(table_512(p.code->tables[1]),
                                         _mm512_set1_epi8(static_cast<char>(128))),
                nibble = _mm512_set1_epi8(15);
  __m512i ones = _mm512_setzero_si512();
  for (std::size_t j = 0; j < p.cols; j += kBlock) {
    ones = _mm512_dpbusd_epi32(ones, _mm512_set1_epi8(1), _mm512_loadu_si512(&p.x[j]));
  }
  const std::int32_t offset = 128 * _mm512_reduce_add_epi32(ones);
  const Matrices& m = tables.matrices;
  for (std::size_t g = begin; g < end; ++g) {
    const Sources<Bits> from(p, g);
    __m512i sum[8];
    for (auto& s : sum) s = _mm512_setzero_si512();
    for (std::size_t j = 0; j < p.cols; j += kBlock) {
      __m512i v[Bits + 2];
      for (int b = 0; b < Bits + 2; ++b) v[b] = _mm512_loadu_si512(from.bytes[b] + j * Bits);
      const __m512i x = _mm512_loadu_si512(&p.x[j]);
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) {
        const int q = Bits * r / 8, shift = Bits * r % 8;
        __m512i h =
            _mm512_xor_si512(through(v[q], m.hash[shift][0]), through(v[q + 1], m.hash[shift][1]));
        if (shift != 0) h = _mm512_xor_si512(h, through(v[q + 2], m.hash[shift][2]));
        __m512i value;
        if constexpr (Vbmi) {
          value =
              _mm512_mask_blend_epi8(_mm512_movepi8_mask(h), _mm512_permutex2var_epi8(s0, h, s1),
                                     _mm512_permutex2var_epi8(s2, h, s3));
        } else {
          value = _mm512_add_epi8(
              _mm512_shuffle_epi8(first, _mm512_and_si512(h, nibble)),
              _mm512_shuffle_epi8(second, _mm512_and_si512(_mm512_srli_epi16(h, 4), nibble)));
        }
        if constexpr (Third) {
          __m512i n = through(v[q], m.nibble[shift][0]);
          if (shift != 0) n = _mm512_or_si512(n, through(v[q + 1], m.nibble[shift][1]));
          value = _mm512_add_epi8(value, _mm512_shuffle_epi8(third, n));
        }
        sum[r] = _mm512_dpbusd_epi32(sum[r], value, x);
      }
    }
    for (int r = 0; r < 8; ++r) {
      y[8 * g + static_cast<std::size_t>(r)] = _mm512_reduce_add_epi32(sum[r]) - offset;
    }
  }
}

SQUISH_AVX2 std::int32_t total(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/// Eight bits from bit `shift` of a on, the rest from b.
template <int Shift>
SQUISH_AVX2 __m256i window(__m256i a, __m256i b) {
  if constexpr (Shift == 0) return a;
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(255 >> Shift));
  return _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(a, Shift), mask),
                         _mm256_andnot_si256(mask, _mm256_slli_epi16(b, 8 - Shift)));
}

template <int Bits, bool Third, int R>
SQUISH_AVX2 void row_256(const __m256i* v, const __m256i* t, __m256i x, __m256i size,
                         __m256i& sum) {
  constexpr int q = Bits * R / 8, shift = Bits * R % 8;
  const __m256i low = window<shift>(v[q], v[q + 1]);
  const __m256i high = shift == 0 ? v[q + 1] : window<shift>(v[q + 1], v[q + (shift == 0 ? 1 : 2)]);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i h = _mm256_xor_si256(
      low, _mm256_xor_si256(_mm256_shuffle_epi8(t[0], _mm256_and_si256(high, nibble)),
                            _mm256_shuffle_epi8(t[1], high_halves(high))));
  __m256i value = _mm256_add_epi8(_mm256_shuffle_epi8(t[2], _mm256_and_si256(h, nibble)),
                                  _mm256_shuffle_epi8(t[3], high_halves(h)));
  if constexpr (Third) value = _mm256_add_epi8(value, _mm256_shuffle_epi8(t[4], high_halves(low)));
  // |x| * sign(x) value: pairs of products of 7-bit magnitudes fit 16 bits.
  const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(value, x));
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

template <int Bits, bool Third>
SQUISH_AVX2 void product_256(const Problem& p, const Tables& tables, std::size_t begin,
                             std::size_t end, std::int32_t* y) {
  const __m256i t[5] = {table_256(tables.low), table_256(tables.high), table_256(p.code->tables[0]),
                        table_256(p.code->tables[1]), table_256(tables.third)};
  for (std::size_t g = begin; g < end; ++g) {
    const Sources<Bits> from(p, g);
    __m256i sum[8];
    for (auto& s : sum) s = _mm256_setzero_si256();
    for (std::size_t j = 0; j < p.cols; j += 32) {
      const std::size_t at = j / kBlock * kBlock * Bits + j % kBlock;
      __m256i v[Bits + 2];
      for (int b = 0; b < Bits + 2; ++b) {
        v[b] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.bytes[b] + at));
      }
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&p.x[j]));
      const __m256i size = _mm256_abs_epi8(x);
      row_256<Bits, Third, 0>(v, t, x, size, sum[0]);
      row_256<Bits, Third, 1>(v, t, x, size, sum[1]);
      row_256<Bits, Third, 2>(v, t, x, size, sum[2]);
      row_256<Bits, Third, 3>(v, t, x, size, sum[3]);
      row_256<Bits, Third, 4>(v, t, x, size, sum[4]);
      row_256<Bits, Third, 5>(v, t, x, size, sum[5]);
      row_256<Bits, Third, 6>(v, t, x, size, sum[6]);
      row_256<Bits, Third, 7>(v, t, x, size, sum[7]);
    }
    for (std::size_t r = 0; r < 8; ++r) y[8 * g + r] = total(sum[r]);
  }
}

using Product = void (*)(const Problem&, const Tables&, std::size_t, std::size_t, std::int32_t*);

void measure(const Problem& p, const char* name, const char* isa, Product product, double seconds) {
  const Tables tables(*p.code);
  std::vector<std::int32_t> y(p.rows);
  const std::size_t groups = p.rows / 8;
  product(p, tables, 0, groups, y.data());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < std::min<std::size_t>(p.rows, 64); ++i) {
    wrong += y[i] != row_by_definition(p, i);
  }
  std::printf("| %s | %zu | %s | %s |", name, p.bits, isa, wrong == 0 ? "yes" : "NO");
  for (const int threads : {1, 2}) {
    std::vector<double> rates;
    double spent = 0;
    while (spent < seconds || rates.size() < 5) {
      const auto start = std::chrono::steady_clock::now();
      constexpr int kRepeats = 20;
      const auto part = [&](std::size_t begin, std::size_t end) {
        for (int i = 0; i < kRepeats; ++i) product(p, tables, begin, end, y.data());
      };
      if (threads == 1) {
        part(0, groups);
      } else {
        std::thread other(part, groups / 2, groups);
        part(0, groups / 2);
        other.join();
      }
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      spent += taken.count();
      rates.push_back(kRepeats * static_cast<double>(p.rows * p.cols) / taken.count() * 1e-9);
    }
    std::sort(rates.begin(), rates.end());
    std::printf(" %.1f (%.1f) |", rates[rates.size() / 2], rates.back());
  }
  std::printf("\n");
  std::fflush(stdout);
}

template <int Bits>
void measure_all(std::size_t rows, std::size_t cols, double seconds) {
  for (const char* name : {"hash", "fast"}) {
    Problem p{
        rows, cols, Bits, rows % 384 == 0 ? 48 : rows / 8, {}, {}, &linear_hash_code(name, Bits)};
    const CounterRng rng(1, "kernel");
    for (std::size_t i = 0; i < rows * cols * Bits / 8; ++i) {
      p.codes.push_back(static_cast<std::uint8_t>(rng.bits(i)));
    }
    for (std::size_t j = 0; j < cols; ++j) {
      p.x.push_back(static_cast<std::int8_t>(static_cast<int>(rng.below(j, 255)) - 127));
    }
    constexpr bool kThird = Bits > 2;
    if (__builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512vbmi")) {
      measure(p, name, "AVX-512, GFNI, VBMI", product_512<Bits, kThird, true>, seconds);
      measure(p, name, "AVX-512, GFNI", product_512<Bits, kThird, false>, seconds);
    }
    if (__builtin_cpu_supports("avx2")) {
      measure(p, name, "AVX2", product_256<Bits, kThird>, seconds);
    }
  }
}

}  // namespace
}  // namespace squish::quant

int main(int argc, char** argv) {
  using namespace squish::quant;
  if (argc < 3) {
    std::fprintf(stderr, "usage: trellis_kernel ROWS COLS [SECONDS]; multiples of 8 and of 64\n");
    return 2;
  }
  const auto rows = static_cast<std::size_t>(std::atol(argv[1]));
  const auto cols = static_cast<std::size_t>(std::atol(argv[2]));
  const double seconds = argc > 3 ? std::atof(argv[3]) : 0.5;
  std::printf("%zu x %zu, Gweights/s, median (best)\n", rows, cols);
  std::printf("| code | bits | instruction set | exact | 1 thread | 2 threads |\n|-|-|-|-|-|-|\n");
  measure_all<1>(rows, cols, seconds);
  measure_all<2>(rows, cols, seconds);
  measure_all<3>(rows, cols, seconds);
  measure_all<4>(rows, cols, seconds);
}
