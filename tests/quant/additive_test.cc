#include "squish/quant/additive.h"

#include <gtest/gtest.h>

#include <cmath>

#include "squish/base/half.h"

namespace squish::quant {
namespace {

VectorSet gaussian_set(std::size_t count, std::size_t dim, std::size_t short_dim) {
  const CounterRng rng(1, "vectors");
  VectorSet set;
  set.dim = dim;
  set.short_dim = short_dim;
  set.short_begin = count - count / 4;
  set.values.resize(count * dim);
  for (std::size_t i = 0; i < count; ++i) {
    set.weights.push_back(static_cast<float>(1 + i % 3));
    for (std::size_t d = 0; d < set.width(i); ++d) {
      set.values[i * dim + d] = static_cast<float>(rng.normal(i * dim + d));
    }
  }
  return set;
}

std::vector<Codebook> random_books(std::size_t dim, const std::vector<std::size_t>& sizes) {
  std::vector<Codebook> books;
  for (std::size_t m = 0; m < sizes.size(); ++m) {
    const CounterRng rng(m, "book");
    books.emplace_back(dim, sizes[m]);
    for (std::size_t i = 0; i < books[m].values.size(); ++i) {
      books[m].values[i] = static_cast<float>(0.7 * rng.normal(i));
    }
  }
  return books;
}

/// Weighted squared error of the codes, by the definition.
double error_of(const VectorSet& set, const std::vector<Codebook>& books, const Codes& codes) {
  double sum = 0;
  for (std::size_t i = 0; i < set.size(); ++i) {
    for (std::size_t d = 0; d < set.width(i); ++d) {
      double rest = set[i][d];
      for (std::size_t m = 0; m < books.size(); ++m) {
        rest -= books[m][codes[i * books.size() + m]][d];
      }
      sum += set.weights[i] * rest * rest;
    }
  }
  return sum;
}

/// The least error that two books can reach.
double least_error(const VectorSet& set, const std::vector<Codebook>& books) {
  double sum = 0;
  for (std::size_t i = 0; i < set.size(); ++i) {
    double least = INFINITY;
    for (std::size_t a = 0; a < books[0].size; ++a) {
      for (std::size_t b = 0; b < books[1].size; ++b) {
        double square = 0;
        for (std::size_t d = 0; d < set.width(i); ++d) {
          square += std::pow(double{set[i][d]} - books[0][a][d] - books[1][b][d], 2);
        }
        least = std::min(least, square);
      }
    }
    sum += set.weights[i] * least;
  }
  return sum;
}

TEST(BeamSearch, IsExactWhereTheSumsAreFew) {
  const VectorSet set = gaussian_set(200, 4, 3);
  const auto books = random_books(4, {64, 16});
  Codes codes(400);
  ThreadPool pool(1);
  const double error = beam_search(set, books, 2, true, codes, pool);
  EXPECT_NEAR(error, error_of(set, books, codes), 1e-4 * error);
  EXPECT_NEAR(error, least_error(set, books), 1e-4 * error);
}

TEST(BeamSearch, IsExactWhereTheBeamHoldsAWholeBook) {
  const VectorSet set = gaussian_set(100, 4, 3);
  const auto books = random_books(4, {80, 80});  // too many sums to try them all
  Codes codes(200);
  ThreadPool pool(1);
  const double error = beam_search(set, books, 80, true, codes, pool);
  EXPECT_NEAR(error, error_of(set, books, codes), 1e-4 * error);
  EXPECT_NEAR(error, least_error(set, books), 1e-4 * error);
}

TEST(BeamSearch, WiderIsBetterAndOnFromCodesNeverWorse) {
  const VectorSet set = gaussian_set(2000, 6, 2);
  const auto books = random_books(6, {32, 32, 32});
  ThreadPool pool(2);
  double previous = INFINITY;
  for (const std::size_t beam : {1, 2, 8, 32}) {
    Codes codes(6000);
    const double started = beam_search(set, books, beam, true, codes, pool);
    EXPECT_NEAR(started, error_of(set, books, codes), 1e-4 * started);
    EXPECT_LT(started, previous) << beam;
    previous = started;
    const double continued = beam_search(set, books, beam, false, codes, pool);
    EXPECT_NEAR(continued, error_of(set, books, codes), 1e-4 * continued);
    EXPECT_LE(continued, started * (1 + 1e-6)) << beam;
  }
}

TEST(AdditiveEncode, StoresWhatF16Holds) {
  Matrix w(24, 40);
  const CounterRng rng(3, "w");
  for (std::size_t i = 0; i < w.size(); ++i) {
    w.data()[i] = static_cast<float>(1e4 * rng.normal(i));
  }
  ThreadPool pool(1);
  AdditiveOptions options;
  options.sizes = {8, 8};
  options.rounds = 5;
  options.half_scales = true;
  const AdditiveCode code =
      additive_encode(w, VectorLayout{24, 40, 4, false}, options, {pool, 1, "w"});
  EXPECT_EQ(code.gain, std::exp2(std::round(std::log2(code.gain))));
  for (const float scale : code.scales) {
    const float stored = scale / code.gain;
    EXPECT_EQ(stored, from_f16(to_f16(stored)));
    EXPECT_GT(stored, 1024.0f);  // where f16 has its full precision
    EXPECT_LT(stored, 65504.0f);
  }
  const Bytes bytes = pack_codebooks(code.books);
  ASSERT_EQ(bytes.size(), 2u * 8 * 4 * 2);
  EXPECT_EQ(unpack_codebooks(bytes, 4, std::vector<std::size_t>{8, 8})[1].values,
            code.books[1].values);
}

}  // namespace
}  // namespace squish::quant
