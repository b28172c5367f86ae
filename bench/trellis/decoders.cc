// Prototypes of matrix-vector products by QTIP's published codes at 2 bits, laid out as squish lays
// out its own (streams down the columns, a vector takes as many columns as it has lanes), beside
// squish's kernels. Built twice, for AVX2 and for AVX-512; one thread.
//   trellis_decoders_avx2 CODE ROWS COLS PRODUCTS
// CODE: 1mad, 3inst or hyb, or a spec of squish (by SQUISH_ISA's kernel). Checks the outputs
// against the code's definition, then prints weights a second. bench/trellis/frontier.py runs it.
#include <immintrin.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "squish/base/half.h"
#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "squish/kernels/kernel.h"
#include "squish/quant/quantizer.h"
#include "squish/quant/trellis_code.h"

namespace squish {
namespace {

using quant::hyb_code, quant::hyb_entry, quant::HybEntry, quant::trellis_code, quant::TrellisCode;

#if defined(SQUISH_ISA_avx512)
#define SQUISH_VECTOR(operation) _mm512_##operation
constexpr std::size_t kLanes = 16, kTogether = 16;  // rows with a sum in registers
typedef __m512i Words;
typedef __m512 Floats;
Words load(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
Words byte_sums(Words v) {
  return _mm512_dpbusd_epi32(_mm512_setzero_si512(), v, _mm512_set1_epi8(1));
}
Words and_xor(Words v, Words mask, Words flip) {
  return _mm512_ternarylogic_epi32(v, mask, flip, 0x6a);
}
Words bit_and(Words a, Words b) { return _mm512_and_si512(a, b); }
Words bit_xor(Words a, Words b) { return _mm512_xor_si512(a, b); }
Words bit_or(Words a, Words b) { return _mm512_or_si512(a, b); }
Words gather(Words index, const std::uint32_t* from) {
  return _mm512_i32gather_epi32(index, from, 4);
}
Floats halves(Words v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
Floats rounded(Floats v) { return _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
Floats floats(Words v) { return _mm512_cvtepi32_ps(v); }
float total(Floats v) { return _mm512_reduce_add_ps(v); }
#else
#define SQUISH_VECTOR(operation) _mm256_##operation
constexpr std::size_t kLanes = 8, kTogether = 8;
typedef __m256i Words;
typedef __m256 Floats;
Words load(const std::uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const Words*>(p)); }
Words byte_sums(Words v) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(v, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}
Words bit_and(Words a, Words b) { return _mm256_and_si256(a, b); }
Words bit_xor(Words a, Words b) { return _mm256_xor_si256(a, b); }
Words bit_or(Words a, Words b) { return _mm256_or_si256(a, b); }
Words and_xor(Words v, Words mask, Words flip) { return bit_xor(bit_and(v, mask), flip); }
Words gather(Words index, const std::uint32_t* from) {
  return _mm256_i32gather_epi32(reinterpret_cast<const int*>(from), index, 4);
}
Floats halves(Words v) {
  const Words packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}
Floats rounded(Floats v) { return _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
Floats floats(Words v) { return _mm256_cvtepi32_ps(v); }
float total(Floats v) {
  float lanes[8], sum = 0;
  _mm256_storeu_ps(lanes, v);
  for (const float lane : lanes) sum += lane;
  return sum;
}
#endif
Words all(std::uint32_t v) { return SQUISH_VECTOR(set1_epi32)(static_cast<int>(v)); }
Words times(Words a, Words b) { return SQUISH_VECTOR(mullo_epi32)(a, b); }
Words plus(Words a, Words b) { return SQUISH_VECTOR(add_epi32)(a, b); }
template <int By>
Words right(Words v) {
  return SQUISH_VECTOR(srli_epi32)(v, By);
}
template <int By>
Words left(Words v) {
  return SQUISH_VECTOR(slli_epi32)(v, By);
}
void add_product(Floats& sum, Floats a, Floats b) { sum = SQUISH_VECTOR(fmadd_ps)(a, b, sum); }

constexpr std::size_t kWordRows = 16;  // two bits each in a word of 32

/// Words of a group of 16 rows, one a column; the states of its last rows run on into the next
/// group's, the last group's into the first's.
struct Stream {
  std::size_t rows, cols;
  std::vector<std::uint32_t> words;

  const std::uint32_t* group(std::size_t g) const { return &words[g % (rows / kWordRows) * cols]; }
  std::uint32_t state(std::size_t row, std::size_t col) const {
    const std::size_t g = row / kWordRows;
    const std::uint64_t both = std::uint64_t{group(g + 1)[col]} << 32 | group(g)[col];
    return static_cast<std::uint32_t>(both >> (2 * (row % kWordRows))) & 0xffff;
  }
};

/// States of row `Row` of a group, without what is above their 16 bits being masked.
template <int Row>
Words states(Words word, Words middle) {
  if constexpr (Row <= 8) return right<2 * Row>(word);
  return right<2 * Row - 16>(middle);
}

struct OneMad {
  static constexpr int kStep = 1;
  void add(Words state, Floats x, Floats* sum) const {
    const Words z = plus(times(bit_and(state, all(0xffff)), all(34038481)), all(76625530));
    add_product(sum[0], floats(plus(byte_sums(z), all(static_cast<std::uint32_t>(-510)))), x);
  }
};

struct ThreeInst {
  static constexpr int kStep = 1;
  void add(Words state, Floats x, Floats* sum) const {
    const Words z = plus(times(bit_and(state, all(0xffff)), all(89226354)), all(64248484));
    const Words u = and_xor(z, all(0x8FFF8FFF), all(0x3B603B60));
    const Floats both =
        SQUISH_VECTOR(add_ps)(halves(right<16>(u)), halves(bit_and(u, all(0xffff))));
    add_product(sum[0], rounded(both), x);
  }
};

struct Hyb {
  static constexpr int kStep = 2;
  std::vector<std::uint32_t> pairs = std::vector<std::uint32_t>(512);

  Hyb() {
    const TrellisCode code = hyb_code(2);
    for (std::uint32_t s = 0; s < code.states(); ++s) {
      const HybEntry entry = hyb_entry(s);
      const float first = entry.negate ? -code.values[s] : code.values[s];
      pairs[entry.index] =
          std::uint32_t{to_f16(first)} << 16 | to_f16(code.values[code.states() + s]);
    }
  }
  void add(Words state, Floats x, Floats* sum) const {
    const Words s = bit_and(state, all(0xffff)), hash = plus(times(s, s), s);
    const Words found = gather(bit_and(right<6>(hash), all(511)), pairs.data());
    const Words pair = bit_xor(found, bit_and(left<16>(hash), all(0x80000000)));
    add_product(sum[0], halves(right<16>(pair)), x);
    add_product(sum[1], halves(bit_and(pair, all(0xffff))), x);
  }
};

template <class Code, std::size_t First, int Row = 0>
void add_rows(const Code& code, Words word, Words middle, Floats x, Floats* sums) {
  if constexpr (Row < static_cast<int>(kTogether)) {
    code.add(states<static_cast<int>(First) + Row>(word, middle), x, sums + Row);
    add_rows<Code, First, Row + Code::kStep>(code, word, middle, x, sums);
  }
}

template <std::size_t First, class Code>
void multiply_rows(const Code& code, const Stream& stream, std::size_t group, const float* x,
                   float* y) {
  const std::uint32_t *own = stream.group(group), *next = stream.group(group + 1);
  Floats sums[kTogether] = {};
  for (std::size_t j = 0; j < stream.cols; j += kLanes) {
    const Words word = load(own + j), middle = bit_or(right<16>(word), left<16>(load(next + j)));
    add_rows<Code, First>(code, word, middle, SQUISH_VECTOR(loadu_ps)(x + j), sums);
  }
  for (std::size_t r = 0; r < kTogether; ++r) y[First + r] = total(sums[r]);
}

template <class Code>
void multiply(const Code& code, const Stream& stream, const float* x, float* y) {
  for (std::size_t g = 0; g < stream.rows / kWordRows; ++g, y += kWordRows) {
    multiply_rows<0>(code, stream, g, x, y);
    if constexpr (kTogether < kWordRows) multiply_rows<kTogether>(code, stream, g, x, y);
  }
}

/// Whether y is the product by the code's values, but for one factor.
bool agrees(const std::string& name, const Stream& stream, const std::vector<float>& x,
            const std::vector<float>& y) {
  const TrellisCode& code = trellis_code(name, 2);
  double dot = 0, own = 0, wanted = 0;
  for (std::size_t r = 0; r < stream.rows; ++r) {
    double sum = 0;
    for (std::size_t c = 0; c < stream.cols; ++c) {
      const std::size_t within = r % code.step;
      sum += x[c] * double{code.values[within * code.states() + stream.state(r - within, c)]};
    }
    dot += sum * y[r];
    own += double{y[r]} * y[r];
    wanted += sum * sum;
  }
  return dot > (1 - 1e-6) * std::sqrt(own * wanted);
}

template <class Body>
void time_products(std::size_t weights, long products, const Body& body) {
  const auto begin = std::chrono::steady_clock::now();
  for (long i = 0; i < products; ++i) body();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("%.4g\n",
              static_cast<double>(weights) * static_cast<double>(products) / seconds.count());
}

template <class Code>
bool run_published(const std::string& name, const Code& code, const Stream& stream,
                   const std::vector<float>& x, long products) {
  std::vector<float> y(stream.rows);
  multiply(code, stream, x.data(), y.data());
  if (!agrees(name, stream, x, y)) return false;
  time_products(stream.rows * stream.cols, products,
                [&] { multiply(code, stream, x.data(), y.data()); });
  return true;
}

void run_own(const std::string& spec, std::size_t rows, const std::vector<float>& x,
             long products) {
  ThreadPool pool(1);
  const Isa asked = active_isa();
  set_isa(available_isas().back());
  const CounterRng rng(1, "weights");
  Matrix w(rows, x.size());
  for (std::size_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(rng.normal(i));
  const auto packed = std::make_shared<const quant::Packed>(
      quant::quantize(w, quant::Spec::parse(spec), {pool, 1, "bench", nullptr}));
  set_isa(asked);
  const auto kernel = kernels::make_kernel(packed);
  kernels::Input input;
  kernels::make_input(kernel->form(), x, kernel->fine(), input);
  Bytes tables;
  std::vector<float> y(rows);
  time_products(w.size(), products, [&] {
    kernel->tabulate(input, tables);
    kernel->multiply(input, tables, 0, rows, y.data());
  });
}

}  // namespace
}  // namespace squish

int main(int argc, char** argv) {
  using namespace squish;
  if (argc != 5) {
    std::fprintf(stderr, "usage: %s CODE|SPEC ROWS COLS PRODUCTS\n", argv[0]);
    return 2;
  }
  const std::string code = argv[1];
  const auto rows = static_cast<std::size_t>(std::atol(argv[2])),
             cols = static_cast<std::size_t>(std::atol(argv[3]));
  const long products = std::atol(argv[4]);
  if (rows == 0 || cols == 0 || rows % kWordRows != 0 || cols % 16 != 0) {
    std::fprintf(stderr, "%s: expected rows and columns in multiples of 16\n", argv[0]);
    return 2;
  }
  const CounterRng rng(1, "decoders");
  std::vector<float> x(cols);
  for (std::size_t j = 0; j < cols; ++j) x[j] = static_cast<float>(rng.normal(j));
  Stream stream{rows, cols, std::vector<std::uint32_t>(rows / kWordRows * cols)};
  for (std::size_t i = 0; i < stream.words.size(); ++i) {
    stream.words[i] = static_cast<std::uint32_t>(rng.bits(cols + i));
  }
  bool is_right = true;
  if (code == "1mad") {
    is_right = run_published(code, OneMad(), stream, x, products);
  } else if (code == "3inst") {
    is_right = run_published(code, ThreeInst(), stream, x, products);
  } else if (code == "hyb") {
    is_right = run_published(code, Hyb(), stream, x, products);
  } else {
    run_own(code, rows, x, products);
  }
  if (!is_right) std::fprintf(stderr, "%s: outputs are not those of %s\n", argv[0], code.c_str());
  return is_right ? 0 : 1;
}
