// Prototypes of matrix-vector products by QTIP's published codes at 2 bits, laid out as squish lays
// out its own (streams down the columns, a vector takes as many columns as it has lanes), beside
// squish's kernels. Built twice, for AVX2 and for AVX-512; one thread.
//   trellis_decoders_avx2 CODE ROWS COLS PRODUCTS
// CODE: 1mad, 3inst or hyb, or a spec of squish (by SQUISH_ISA's kernel). Checks the outputs
// against the code's definition, then prints weights a second. bench/trellis/frontier.py runs it.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

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
#define SQUISH_BITS(operation) _mm512_##operation##_si512
constexpr std::size_t kLanes = 16, kTogether = 16;  // rows with a sum in registers
typedef __m512i Words;
typedef __m512 Floats;
Words load(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
Words and_xor(Words v, Words mask, Words flip) {
  return _mm512_ternarylogic_epi32(v, mask, flip, 0x6a);
}
/// sum + x * (the sum of a lane's bytes); x as spread_x() has it.
Words add_bytes(Words sum, Words bytes, Words x) { return _mm512_dpbusd_epi32(sum, bytes, x); }
std::uint32_t spread_x(int x) { return 0x01010101u * static_cast<std::uint8_t>(x); }
Words gather(Words index, const std::uint32_t* from) {
  return _mm512_i32gather_epi32(index, from, 4);
}
float total(Words v) { return static_cast<float>(_mm512_reduce_add_epi32(v)); }
float total(Floats v) { return _mm512_reduce_add_ps(v); }
#else
#define SQUISH_VECTOR(operation) _mm256_##operation
#define SQUISH_BITS(operation) _mm256_##operation##_si256
constexpr std::size_t kLanes = 8, kTogether = 8;
typedef __m256i Words;
typedef __m256 Floats;
Words load(const std::uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const Words*>(p)); }
Words and_xor(Words v, Words mask, Words flip) {
  return _mm256_xor_si256(_mm256_and_si256(v, mask), flip);
}
Words add_bytes(Words sum, Words bytes, Words x) {
  const Words pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, x));
}
std::uint32_t spread_x(int x) { return 0x00010001u * static_cast<std::uint16_t>(x); }
Words gather(Words index, const std::uint32_t* from) {
  return _mm256_i32gather_epi32(reinterpret_cast<const int*>(from), index, 4);
}
float total(Words v) {
  std::int32_t lanes[8], sum = 0;
  _mm256_storeu_si256(reinterpret_cast<Words*>(lanes), v);
  for (const std::int32_t lane : lanes) sum += lane;
  return static_cast<float>(sum);
}
float total(Floats v) {
  float lanes[8], sum = 0;
  _mm256_storeu_ps(lanes, v);
  for (const float lane : lanes) sum += lane;
  return sum;
}
#endif
Words bit_and(Words a, Words b) { return SQUISH_BITS(and)(a, b); }
Words bit_or(Words a, Words b) { return SQUISH_BITS(or)(a, b); }
Floats floats(Words v) { return SQUISH_VECTOR(cvtepi32_ps)(v); }
Floats as_floats(Words v) { return reinterpret_cast<Floats>(v); }
Words as_words(Floats v) { return reinterpret_cast<Words>(v); }
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

/// Of the input, whole numbers of 8 bits, as codes want it.
struct Input {
  std::vector<float> x;
  std::vector<std::uint32_t> spread;
  int sum = 0;

  explicit Input(std::size_t cols) {
    const CounterRng rng(1, "decoders");
    for (std::size_t j = 0; j < cols; ++j) {
      const int whole =
          static_cast<int>(std::lround(std::clamp(32 * rng.normal(j), -127.0, 127.0)));
      x.push_back(static_cast<float>(whole));
      spread.push_back(spread_x(whole));
      sum += whole;
    }
  }
};

/// Its bytes' sums, less 510.
struct OneMad {
  static constexpr int kStep = 1;
  typedef Words Factor;
  typedef Words Sum;
  static Factor factor(const Input& in, std::size_t j) { return load(&in.spread[j]); }
  static float offset(const Input& in) { return -510.0f * static_cast<float>(in.sum); }
  void add(Words state, Factor x, Sum* sum) const {
    const Words z = plus(times(bit_and(state, all(0xffff)), all(34038481)), all(76625530));
    sum[0] = add_bytes(sum[0], z, x);
  }
};

struct OfFloats {
  typedef Floats Factor;
  typedef Floats Sum;
  static Factor factor(const Input& in, std::size_t j) { return SQUISH_VECTOR(loadu_ps)(&in.x[j]); }
  static float offset(const Input& /*in*/) { return 0; }
};

/// Without QTIP's rounding of the sum to a half. The halves' exponents are 12 to 15, so that their
/// bits, moved, are floats over 2^112.
struct ThreeInst : OfFloats {
  static constexpr int kStep = 1;
  static Floats upper_half(Words v) {
    return as_floats(bit_and(SQUISH_VECTOR(srai_epi32)(v, 3), all(0x8FFFE000)));
  }
  void add(Words state, Factor x, Sum* sum) const {
    const Words z = plus(times(bit_and(state, all(0xffff)), all(89226354)), all(64248484));
    const Words u = and_xor(z, all(0x8FFF8FFF), all(0x3B603B60));
    add_product(sum[0], SQUISH_VECTOR(add_ps)(upper_half(u), upper_half(left<16>(u))), x);
  }
};

/// The table's pairs in 16 bits each, the first of a pair in the higher.
struct Hyb : OfFloats {
  static constexpr int kStep = 2;
  std::vector<std::uint32_t> pairs = std::vector<std::uint32_t>(512);

  Hyb() {
    const TrellisCode code = hyb_code(2);
    const auto whole = [](float v) {
      return static_cast<std::uint16_t>(static_cast<std::int16_t>(std::lround(8192 * v)));
    };
    for (std::uint32_t s = 0; s < code.states(); ++s) {
      const HybEntry entry = hyb_entry(s);
      const float first = entry.negate ? -code.values[s] : code.values[s];
      pairs[entry.index] =
          std::uint32_t{whole(first)} << 16 | whole(code.values[code.states() + s]);
    }
  }
  void add(Words state, Factor x, Sum* sum) const {
    const Words s = bit_and(state, all(0xffff)), hash = plus(times(s, s), s);
    const Words found = gather(bit_and(right<6>(hash), all(511)), pairs.data());
    const Words sign = bit_and(left<16>(hash), all(0x80000000));
    add_product(sum[0], as_floats(SQUISH_BITS(xor)(as_words(floats(found)), sign)), x);
    add_product(sum[1], floats(left<16>(found)), x);
  }
};

template <class Code, std::size_t First, int Row = 0>
void add_rows(const Code& code, Words word, Words middle, typename Code::Factor x,
              typename Code::Sum* sums) {
  if constexpr (Row < static_cast<int>(kTogether)) {
    code.add(states<static_cast<int>(First) + Row>(word, middle), x, sums + Row);
    add_rows<Code, First, Row + Code::kStep>(code, word, middle, x, sums);
  }
}

template <std::size_t First, class Code>
__attribute__((noinline)) void multiply_rows(const Code& code, const Stream& stream,
                                             std::size_t group, const Input& in, float* y) {
  const std::uint32_t *own = stream.group(group), *next = stream.group(group + 1);
  typename Code::Sum sums[kTogether] = {};
  for (std::size_t j = 0; j < stream.cols; j += kLanes) {
    const Words word = load(own + j), middle = bit_or(right<16>(word), left<16>(load(next + j)));
    add_rows<Code, First>(code, word, middle, Code::factor(in, j), sums);
  }
  const float offset = Code::offset(in);
  for (std::size_t r = 0; r < kTogether; ++r) y[First + r] = total(sums[r]) + offset;
}

template <class Code>
void multiply(const Code& code, const Stream& stream, const Input& in, float* y) {
  for (std::size_t g = 0; g < stream.rows / kWordRows; ++g, y += kWordRows) {
    multiply_rows<0>(code, stream, g, in, y);
    if constexpr (kTogether < kWordRows) multiply_rows<kTogether>(code, stream, g, in, y);
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
bool run_published(const std::string& name, const Code& code, const Stream& stream, const Input& in,
                   long products) {
  std::vector<float> y(stream.rows);
  multiply(code, stream, in, y.data());
  if (!agrees(name, stream, in.x, y)) return false;
  time_products(stream.rows * stream.cols, products, [&] { multiply(code, stream, in, y.data()); });
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
  const Input in(cols);
  const CounterRng rng(1, "words");
  Stream stream{rows, cols, std::vector<std::uint32_t>(rows / kWordRows * cols)};
  for (std::size_t i = 0; i < stream.words.size(); ++i) {
    stream.words[i] = static_cast<std::uint32_t>(rng.bits(i));
  }
  bool is_right = true;
  if (code == "1mad") {
    is_right = run_published(code, OneMad(), stream, in, products);
  } else if (code == "3inst") {
    is_right = run_published(code, ThreeInst(), stream, in, products);
  } else if (code == "hyb") {
    is_right = run_published(code, Hyb(), stream, in, products);
  } else {
    run_own(code, rows, in.x, products);
  }
  if (!is_right) std::fprintf(stderr, "%s: outputs are not those of %s\n", argv[0], code.c_str());
  return is_right ? 0 : 1;
}
