#include "squish/quant/kmeans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "squish/base/isa.h"

namespace squish::quant {
namespace {

using testing::ElementsAre;

/// Calls body once for each instruction set that this CPU has, with that one in use.
template <class Body>
void for_each_isa(Body body) {
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(to_string(isa));
    set_isa(isa);
    body();
  }
  set_isa(before);
}

VectorSet gaussian_set(std::size_t count, std::size_t dim, std::uint64_t seed) {
  const CounterRng rng(seed, "vectors");
  VectorSet set;
  set.dim = dim;
  set.short_begin = count;
  set.weights.assign(count, 1.0f);
  set.values.resize(count * dim);
  for (std::size_t i = 0; i < set.values.size(); ++i) {
    set.values[i] = static_cast<float>(rng.normal(i));
  }
  return set;
}

/// Small whole numbers: every score is exact, whatever the order of its sum, and ties are many.
Codebook whole_numbers(std::size_t dim, std::size_t size, std::uint64_t seed) {
  const CounterRng rng(seed, "whole");
  Codebook book(dim, size);
  for (std::size_t i = 0; i < book.values.size(); ++i) {
    book.values[i] = static_cast<float>(rng.below(i, 7)) - 3.0f;
  }
  return book;
}

/// Entries in ascending order of score, then of index.
std::vector<std::pair<float, std::uint32_t>> ranking(const float* x, const Codebook& book,
                                                     std::size_t width) {
  std::vector<std::pair<float, std::uint32_t>> all;
  for (std::uint32_t c = 0; c < book.size; ++c) {
    float score = 0;
    for (std::size_t d = 0; d < width; ++d) score += book[c][d] * (0.5f * book[c][d] - x[d]);
    all.emplace_back(score, c);
  }
  std::sort(all.begin(), all.end());
  return all;
}

/// The sum of weighted squared distances to the nearest entry, by the definition.
double distortion(const VectorSet& set, const Codebook& book) {
  double sum = 0;
  for (std::size_t i = 0; i < set.size(); ++i) {
    double least = INFINITY;
    for (std::size_t c = 0; c < book.size; ++c) {
      double square = 0;
      for (std::size_t d = 0; d < set.width(i); ++d) {
        square += std::pow(double{set[i][d]} - book[c][d], 2);
      }
      least = std::min(least, square);
    }
    sum += set.weights[i] * least;
  }
  return sum;
}

TEST(Nearest, AgreesWithBruteForce) {
  for_each_isa([] {
    for (const std::size_t dim : {1, 3, 8, 17}) {
      for (const std::size_t size : {1, 2, 16, 33, 512, 1300}) {
        const Codebook book = whole_numbers(dim, size, 1), queries = whole_numbers(dim, 13, 2);
        for (const std::size_t width : {dim, (dim + 1) / 2}) {
          const SearchTable table(book, width);
          std::vector<std::uint32_t> index(13);
          std::vector<float> score(13);
          nearest_ops().nearest(queries[0], dim, 13, table.view(), index.data(), score.data());
          for (std::size_t i = 0; i < 13; ++i) {
            const auto expected = ranking(queries[i], book, width).front();
            EXPECT_EQ(index[i], expected.second) << dim << " " << size << " " << i;
            EXPECT_EQ(score[i], expected.first);
          }
        }
      }
    }
  });
}

TEST(Top, AgreesWithBruteForce) {
  for_each_isa([] {
    for (const std::size_t size : {8, 40, 512, 1300}) {
      const Codebook book = whole_numbers(5, size, 3), queries = whole_numbers(5, 11, 4);
      const SearchTable table(book, 5);
      for (const std::size_t count : {1, 3, 8, 20}) {
        if (count > size) continue;
        std::vector<std::uint32_t> index(11 * count);
        std::vector<float> score(11 * count);
        nearest_ops().top(queries[0], 5, 11, table.view(), count, index.data(), score.data());
        for (std::size_t i = 0; i < 11; ++i) {
          const auto expected = ranking(queries[i], book, 5);
          for (std::size_t t = 0; t < count; ++t) {
            EXPECT_EQ(index[i * count + t], expected[t].second) << size << " " << count;
            EXPECT_EQ(score[i * count + t], expected[t].first);
          }
        }
      }
    }
  });
}

TEST(Shrink, LowersDistancesAndSumsThem) {
  for_each_isa([] {
    constexpr std::size_t kCount = 150, kDim = 3, kStride = 160;
    const Codebook points = whole_numbers(kDim, kCount, 5), centre = whole_numbers(kDim, 1, 6);
    AlignedVector<float> columns(kDim * kStride), weights(kCount), distances(kCount, 9.0f);
    float expected_sum = 0;
    std::vector<float> expected(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
      float square = 0;
      for (std::size_t d = 0; d < kDim; ++d) {
        columns[d * kStride + i] = points[i][d];
        square += (points[i][d] - centre[0][d]) * (points[i][d] - centre[0][d]);
      }
      weights[i] = static_cast<float>(i % 4);
      expected[i] = std::min(square, 9.0f);
      expected_sum += weights[i] * expected[i];
    }
    const float sum = nearest_ops().shrink(columns.data(), kStride, kCount, kDim, centre[0],
                                           weights.data(), distances.data());
    EXPECT_EQ(sum, expected_sum);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), distances.begin()));
  });
}

TEST(RefitCodebook, TakesWeightedMeansOfWhatOthersLeave) {
  VectorSet set;
  set.dim = 2;
  set.short_begin = 3;  // the last vector has one component
  set.short_dim = 1;
  set.values = {1, 2, 3, 4, 5, 6, 11, 0};
  set.weights = {1, 3, 1, 1};
  std::vector<Codebook> books(2, Codebook(2, 2));
  books[1].values = {0, 0, 1, 1};
  const Codes codes = {0, 0, 0, 1, 1, 0, 1, 1};
  ThreadPool pool(1);
  refit_codebook(set, books, codes, 0, pool);
  // Entry 0: (1, 2) with weight 1 and (3, 4) - (1, 1) with weight 3. Entry 1: (5, 6) and 11 - 1.
  EXPECT_THAT(books[0].values, ElementsAre(1.75f, 2.75f, 7.5f, 6.0f));
  EXPECT_THAT(books[1].values, ElementsAre(0, 0, 1, 1));
}

TEST(RefitCodebook, SeedsUnusedEntriesFromTheWorstVectors) {
  VectorSet set;
  set.dim = set.short_dim = 1;
  set.values = {0, 0, 0, 10, 1};
  set.weights = {1, 1, 1, 1, 1};
  set.short_begin = set.size();
  Codebook book(1, 2);
  ThreadPool pool(1);
  refit_codebook(set, {&book, 1}, Codes(5, 0), 0, pool);
  EXPECT_THAT(book.values, ElementsAre(2.2f, 10.0f));
}

TEST(KMeans, FindsSeparateClustersAndTheirWeightedMeans) {
  VectorSet set = gaussian_set(900, 4, 1);
  for (std::size_t i = 0; i < set.size(); ++i) {
    for (std::size_t d = 0; d < 4; ++d) {
      set.values[i * 4 + d] = 0.1f * set.values[i * 4 + d] + (d == i % 3 ? 50.0f : 0.0f);
    }
    set.weights[i] = i < 450 ? 0.25f : 1.0f;
  }
  ThreadPool pool(1);
  const Codebook book = kmeans(set, 3, 20, 1, "k", pool);
  std::set<std::size_t> found;
  for (std::size_t c = 0; c < 3; ++c) {
    const auto axis = static_cast<std::size_t>(std::max_element(book[c], book[c] + 4) - book[c]);
    found.insert(axis);
    for (std::size_t d = 0; d < 4; ++d) {
      double sum = 0, weight = 0;
      for (std::size_t i = axis; i < set.size(); i += 3) {
        sum += double{set.weights[i]} * set[i][d];
        weight += set.weights[i];
      }
      EXPECT_NEAR(book[c][d], sum / weight, 1e-5);
    }
  }
  EXPECT_EQ(found, (std::set<std::size_t>{0, 1, 2}));
}

TEST(KMeans, ReachesTheKnownDistortionOfANormalSource) {
  // Max, "Quantizing for minimum distortion" (1960): 4 levels leave 0.1175, 16 levels 0.009497.
  const VectorSet set = gaussian_set(30'000, 1, 2);
  const double n = 3e4;
  ThreadPool pool(2);
  const double four = distortion(set, kmeans(set, 4, 100, 1, "k", pool)) / n;
  EXPECT_NEAR(four, 0.1175, 0.003);
  const double sixteen = distortion(set, kmeans(set, 16, 100, 1, "k", pool)) / n;
  EXPECT_NEAR(sixteen, 0.0095, 0.0007);
}

TEST(KMeans, KeepsDistinctVectorsWhereTheyAreFew) {
  const VectorSet distinct = gaussian_set(30, 8, 3);
  VectorSet set = distinct;
  for (int copies = 0; copies < 3; ++copies) {
    set.values.insert(set.values.end(), distinct.values.begin(), distinct.values.end());
    set.weights.insert(set.weights.end(), 30, 1.0f);
  }
  set.short_begin = set.size();
  ThreadPool pool(1);
  const Codebook book = kmeans(set, 64, 20, 1, "k", pool);
  EXPECT_LT(distortion(set, book), 1e-10);
  const auto zero_entries =
      std::count_if(book.values.begin(), book.values.end(), [](float value) { return value == 0; });
  EXPECT_EQ(zero_entries, (64 - 30) * 8);
}

TEST(KMeans, SameForEveryNumberOfThreads) {
  const VectorSet set = gaussian_set(40'000, 6, 4);
  ThreadPool one(1), three(3);
  EXPECT_EQ(kmeans(set, 100, 5, 7, "k", one).values, kmeans(set, 100, 5, 7, "k", three).values);
}

TEST(Sample, IsSpreadOverVectorsOfPositiveWeight) {
  VectorSet set = gaussian_set(1000, 1, 5);
  std::iota(set.values.begin(), set.values.end(), 0.0f);
  for (std::size_t i = 0; i < 1000; i += 2) set.weights[i] = 0;
  set.short_begin = 900;
  const VectorSet some = sample(set, 50, CounterRng(1, "s"));
  ASSERT_EQ(some.size(), 50u);
  for (std::size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(std::fmod(some.values[i], 2.0f), 1.0f);
    EXPECT_GE(some.values[i], static_cast<float>(20 * i));
    EXPECT_LT(some.values[i], static_cast<float>(20 * (i + 1)));
  }
  EXPECT_EQ(some.short_begin, 45u);
  EXPECT_EQ(sample(set, 5000, CounterRng(1, "s")).size(), 500u);
}

}  // namespace
}  // namespace squish::quant
