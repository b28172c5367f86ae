#include "squish/linalg/hadamard.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <string_view>

#include "squish/base/isa.h"
#include "squish/linalg/hadamard.isa.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::linalg {

SQUISH_DECLARE_TABLES(HadamardOps, kHadamardOps);

namespace {

const HadamardOps& hadamard_ops() {
  return choose(scalar::kHadamardOps, avx2::kHadamardOps, avx512::kHadamardOps);
}

bool is_prime(std::size_t q) {
  for (std::size_t d = 2; d * d <= q; ++d) {
    if (q % d == 0) return false;
  }
  return q >= 2;
}

/// is_residue[j]: j is the square of something non-zero modulo the prime q.
std::vector<bool> quadratic_residues(std::size_t q) {
  std::vector<bool> is_residue(q);
  for (std::size_t x = 1; x < q; ++x) is_residue[x * x % q] = true;
  return is_residue;
}

std::vector<float> paley_one(std::size_t order) {
  const std::size_t q = order - 1;
  const std::vector<bool> is_residue = quadratic_residues(q);
  std::vector<float> h(order * order, 1.0f);
  for (std::size_t c = 1; c < order; ++c) h[c] = -1.0f;
  for (std::size_t r = 0; r < q; ++r) {
    for (std::size_t c = 0; c < q; ++c) {
      h[(r + 1) * order + c + 1] = is_residue[(c + q - r) % q] ? -1.0f : 1.0f;
    }
  }
  return h;
}

std::vector<float> paley_two(std::size_t order) {
  const std::size_t half = order / 2, q = half - 1;
  const std::vector<bool> is_residue = quadratic_residues(q);
  const auto conference = [&](std::size_t r, std::size_t c) {
    if (r == c) return 0.0f;
    if (r == 0 || c == 0) return 1.0f;
    return is_residue[(c + q - r) % q] ? 1.0f : -1.0f;
  };
  std::vector<float> h(order * order);
  for (std::size_t r = 0; r < half; ++r) {
    for (std::size_t c = 0; c < half; ++c) {
      const float s = conference(r, c), identity = r == c ? 1.0f : 0.0f;
      h[r * order + c] = s + identity;
      h[r * order + half + c] = s - identity;
      h[(half + r) * order + c] = s - identity;
      h[(half + r) * order + half + c] = -s - identity;
    }
  }
  return h;
}

// First rows of Williamson's four symmetric circulants, each of order / 4 entries.
struct Williamson {
  std::size_t order;
  std::string_view a, b, c, d;
};

constexpr Williamson kWilliamson[] = {
    {52, "+-+--++++--+-", "+---++++++---", "++-+--++--+-+", "+----+--+----"},
    {116, "++--+--+-+++-++++-+++-+--+--+", "++++-++-+---++++++---+-++-+++",
     "+-+---++--+-++++++-+--++---+-", "+++---++--+-+----+-+--++---++"},
    {124, "+--+++-+--+----++----+--+-+++--", "+--+++-+--+----++----+--+-+++--",
     "+-----+++-+-+--++--+-+-+++-----", "++++++---+-+-++--++-+-+---+++++"},
    {156, "+++--+-+-----+--++----++--+-----+-+--++", "++++---+--++----+-+--+-+----++--+---+++",
     "+++--++-+---+-+--+----+--+-+---+-++--++", "+---++-+-+-----+++-++-+++-----+-+-++---"},
    {172, "+---++--++++-+-+++-++--++-+++-+-++++--++---",
     "++-++++++----+-+--++-++-++--+-+----++++++-+", "+++-+-++--+-+-++++-+----+-++++-+-+--++-+-++",
     "++---++++-+--+--++--------++--+--+-++++---+"},
};

std::vector<float> williamson(const Williamson& table) {
  // Block row r of [[A,B,C,D],[-B,A,-D,C],[-C,D,A,-B],[-D,-C,B,A]].
  const std::string_view block[4] = {table.a, table.b, table.c, table.d};
  constexpr int kBlock[4][4] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0}};
  constexpr float kSign[4][4] = {{1, 1, 1, 1}, {-1, 1, -1, 1}, {-1, 1, 1, -1}, {-1, -1, 1, 1}};
  const std::size_t n = table.order / 4;
  std::vector<float> h(table.order * table.order);
  for (std::size_t r = 0; r < table.order; ++r) {
    for (std::size_t c = 0; c < table.order; ++c) {
      const std::size_t i = r / n, j = c / n;
      const char entry = block[kBlock[i][j]][(c % n + n - r % n) % n];
      h[r * table.order + c] = entry == '+' ? kSign[i][j] : -kSign[i][j];
    }
  }
  return h;
}

}  // namespace

std::vector<float> hadamard_matrix(std::size_t order) {
  if (order < 4 || order % 4 != 0) return {};
  for (const Williamson& table : kWilliamson) {
    if (table.order == order) return williamson(table);
  }
  if (is_prime(order - 1)) return paley_one(order);
  if (order / 2 % 4 == 2 && is_prime(order / 2 - 1)) return paley_two(order);
  return {};
}

Hadamard::Hadamard(std::size_t n) : size_(n) {
  assert(n >= 1);
  const std::size_t power = std::size_t{1} << std::countr_zero(n);
  if (power == n) {
    blocks_ = {n};
    return;
  }
  for (std::size_t split = 4; split <= power && n / power * split <= kMaxFactor; split *= 2) {
    const std::vector<float> matrix = hadamard_matrix(n / power * split);
    if (matrix.empty()) continue;
    factor_ = n / power * split;
    matrix_.assign(matrix.begin(), matrix.end());
    transposed_.resize(matrix.size());
    for (std::size_t r = 0; r < factor_; ++r) {
      for (std::size_t c = 0; c < factor_; ++c) {
        transposed_[c * factor_ + r] = matrix_[r * factor_ + c];
      }
    }
    blocks_.assign(factor_, n / factor_);
    return;
  }
  for (std::size_t rest = n; rest != 0; rest -= std::bit_floor(rest)) {
    blocks_.push_back(std::bit_floor(rest));
  }
}

std::vector<float> Hadamard::factors(std::span<const float> signs) const {
  assert(signs.size() == size_);
  std::vector<float> factors(signs.begin(), signs.end());
  std::size_t i = 0;
  for (const std::size_t block : blocks_) {
    const double order = static_cast<double>(factor_ * block);
    const auto scale = static_cast<float>(1.0 / std::sqrt(order));
    for (std::size_t end = i + block; i < end; ++i) factors[i] *= scale;
  }
  return factors;
}

void Hadamard::transform(AlignedVector<float>& strip, AlignedVector<float>& scratch,
                         bool inverse) const {
  const HadamardOps& ops = hadamard_ops();
  float* at = strip.data();
  for (const std::size_t block : blocks_) {
    ops.butterflies(at, block);
    at += block * kStripLanes;
  }
  if (factor_ == 1) return;
  scratch.resize(strip.size());
  // Rotating multiplies each vector by U', its inverse by U.
  ops.mix(inverse ? matrix_.data() : transposed_.data(), factor_, strip.data(), size_ / factor_,
          scratch.data());
  strip.swap(scratch);
}

/// Calls body(first vector, how many, strip, scratch) for all strips of `vectors` vectors.
template <class Body>
void Hadamard::for_strips(std::size_t vectors, ThreadPool& pool, const Body& body) const {
  constexpr std::size_t kChunkElements = 1 << 16;  // less work than this stays on one thread
  const std::size_t strips = (vectors + kStripLanes - 1) / kStripLanes;
  const std::size_t grain = std::max<std::size_t>(1, kChunkElements / (size_ * kStripLanes));
  parallel_for(pool, strips, grain, [&](std::size_t begin, std::size_t end) {
    AlignedVector<float> strip(size_ * kStripLanes), scratch;
    for (std::size_t s = begin; s < end; ++s) {
      const std::size_t first = s * kStripLanes;
      body(first, std::min(kStripLanes, vectors - first), strip, scratch);
    }
  });
}

void Hadamard::transform_rows(MatrixView w, std::span<const float> signs, bool inverse,
                              ThreadPool& pool) const {
  assert(w.cols == size_);
  const std::vector<float> scaled = factors(signs), ones(size_, 1.0f);
  const float* const before = inverse ? ones.data() : scaled.data();
  const float* const after = inverse ? scaled.data() : ones.data();
  for_strips(w.rows, pool, [&](std::size_t row, std::size_t lanes, auto& strip, auto& scratch) {
    float* const rows = w.data + row * w.stride;
    hadamard_ops().load_rows(rows, w.stride, size_, lanes, before, strip.data());
    transform(strip, scratch, inverse);
    hadamard_ops().store_rows(strip.data(), size_, lanes, after, rows, w.stride);
  });
}

void Hadamard::transform_columns(MatrixView w, std::span<const float> signs, bool inverse,
                                 ThreadPool& pool) const {
  assert(w.rows == size_);
  const std::vector<float> scaled = factors(signs);
  for_strips(w.cols, pool, [&](std::size_t column, std::size_t lanes, auto& strip, auto& scratch) {
    for (std::size_t i = 0; i < size_; ++i) {
      const float factor = inverse ? 1.0f : scaled[i];
      for (std::size_t l = 0; l < lanes; ++l) {
        strip[i * kStripLanes + l] = factor * w(i, column + l);
      }
    }
    transform(strip, scratch, inverse);
    for (std::size_t i = 0; i < size_; ++i) {
      const float factor = inverse ? scaled[i] : 1.0f;
      for (std::size_t l = 0; l < lanes; ++l) {
        w(i, column + l) = factor * strip[i * kStripLanes + l];
      }
    }
  });
}

void Hadamard::transform_one(std::span<float> x, bool inverse) const {
  thread_local AlignedVector<float> strip, scratch;
  const HadamardOps& ops = hadamard_ops();
  if (blocks_.back() % kStripLanes != 0) {  // the other vectors of the strip are of no use
    strip.resize(size_ * kStripLanes);
    for (std::size_t i = 0; i < size_; ++i) strip[i * kStripLanes] = x[i];
    transform(strip, scratch, inverse);
    for (std::size_t i = 0; i < size_; ++i) x[i] = strip[i * kStripLanes];
    return;
  }
  // Runs of 16 elements are transformed within, then take the place of 16 vectors' elements.
  strip.resize(size_);
  std::ranges::copy(x, strip.begin());
  ops.butterflies_within(strip.data(), size_);
  float* at = strip.data();
  for (const std::size_t block : blocks_) {
    ops.butterflies(at, block / kStripLanes);
    at += block;
  }
  if (factor_ == 1) {
    std::ranges::copy(strip, x.begin());
    return;
  }
  scratch.resize(size_);
  ops.mix(inverse ? matrix_.data() : transposed_.data(), factor_, strip.data(),
          blocks_[0] / kStripLanes, scratch.data());
  std::ranges::copy(scratch, x.begin());
}

void Hadamard::rotate(std::span<float> x, std::span<const float> factors) const {
  assert(x.size() == size_ && factors.size() == size_);
  vector_ops().scale(factors.data(), size_, x.data());
  transform_one(x, false);
}

void Hadamard::unrotate(std::span<float> x, std::span<const float> factors) const {
  assert(x.size() == size_ && factors.size() == size_);
  transform_one(x, true);
  vector_ops().scale(factors.data(), size_, x.data());
}

void Hadamard::rotate_rows(MatrixView w, std::span<const float> signs, ThreadPool& pool) const {
  transform_rows(w, signs, false, pool);
}

void Hadamard::unrotate_rows(MatrixView w, std::span<const float> signs, ThreadPool& pool) const {
  transform_rows(w, signs, true, pool);
}

void Hadamard::rotate_columns(MatrixView w, std::span<const float> signs, ThreadPool& pool) const {
  transform_columns(w, signs, false, pool);
}

void Hadamard::unrotate_columns(MatrixView w, std::span<const float> signs,
                                ThreadPool& pool) const {
  transform_columns(w, signs, true, pool);
}

}  // namespace squish::linalg
