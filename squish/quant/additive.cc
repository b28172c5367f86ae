#include "squish/quant/additive.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "squish/base/error.h"
#include "squish/base/half.h"

namespace squish::quant {
namespace {

constexpr std::size_t kChunk = 1024;      // vectors a task
constexpr std::size_t kMostTried = 4096;  // sums of entries, one of each book, that are all tried
constexpr std::size_t kBatch = 64;        // vectors searched side by side within one
// Codebooks are trained on this many vectors or, where books are large, on so many per entry.
constexpr std::size_t kTrainLeast = 32768, kTrainPerEntry = 8;
constexpr int kSweeps = 2;    // over the books, in each least-squares fit
constexpr int kHalfTop = 13;  // the largest scale is stored as 2^13 to 2^14
// A refit multiplies a scale by this at most, so that no line takes f16's range from the others.
constexpr double kMostGrowth = 1024;

std::vector<float> root_mean_squares(ConstMatrixView w, bool of_columns) {
  std::vector<double> squares(of_columns ? w.cols : w.rows);
  for (std::size_t i = 0; i < w.rows; ++i) {
    for (std::size_t j = 0; j < w.cols; ++j) {
      squares[of_columns ? j : i] += double{w(i, j)} * w(i, j);
    }
  }
  const auto length = static_cast<double>(of_columns ? w.rows : w.cols);
  std::vector<float> scales(squares.size());
  std::transform(squares.begin(), squares.end(), scales.begin(),
                 [&](double sum) { return static_cast<float>(std::sqrt(sum / length)); });
  return scales;
}

/// A power of two that brings the largest scale to where f16 has its full precision.
float gain_for(std::span<const float> scales) {
  const float largest = *std::max_element(scales.begin(), scales.end());
  if (!(largest > 0)) return 1;
  return std::ldexp(1.0f, std::max(std::ilogb(largest) - kHalfTop, -126));
}

/// Each codebook is fitted to what the ones before it leave.
std::vector<Codebook> residual_kmeans(VectorSet set, const AdditiveOptions& options,
                                      const EncodeContext& context) {
  std::vector<Codebook> books;
  for (std::size_t m = 0; m < options.sizes.size(); ++m) {
    const std::string key = fmt::format("{}/codebook/{}", context.key, m);
    books.push_back(
        kmeans(set, options.sizes[m], options.iterations, context.seed, key, context.pool));
    if (m + 1 == options.sizes.size()) break;
    Codes codes(set.size());
    beam_search(set, {&books.back(), 1}, 1, true, codes, context.pool);
    for (std::size_t i = 0; i < set.size(); ++i) {
      const float* entry = books.back()[codes[i]];
      for (std::size_t d = 0; d < set.width(i); ++d) set.values[i * set.dim + d] -= entry[d];
    }
  }
  return books;
}

/// Beam search on up to kBatch vectors of one width.
class BatchSearch {
 public:
  BatchSearch(std::span<const Codebook> books, std::size_t width, std::size_t beam)
      : books_(books), width_(width), beam_(beam) {
    for (const Codebook& book : books) tables_.emplace_back(book, width);
  }

  /// Scratch of one task.
  struct State {
    std::size_t live = 1;  // hypotheses of each vector
    std::vector<float> rest, next_rest, norm, score;
    std::vector<std::uint32_t> codes, next_codes, index;
  };

  /// Codes of vectors [begin, end), which have this width; returns their weighted squared error.
  double run(const VectorSet& set, std::size_t begin, std::size_t end, bool restart, Codes& codes,
             State& state) const {
    const std::size_t count = end - begin, books = books_.size();
    state.live = 1;
    state.rest.resize(count * width_);
    state.codes.assign(codes.begin() + begin * books, codes.begin() + end * books);
    for (std::size_t i = 0; i < count; ++i) {
      std::copy_n(set[begin + i], width_, state.rest.begin() + i * width_);
      for (std::size_t m = 0; m < books && !restart; ++m) {
        add(-1, m, state.codes[i * books + m], state.rest.data() + i * width_);
      }
    }
    for (std::size_t m = 0; m < books; ++m) step(count, m, restart, state);

    std::copy(state.codes.begin(), state.codes.end(), codes.begin() + begin * books);
    double error = 0;
    for (std::size_t i = 0; i < count; ++i) {
      error += double{set.weights[begin + i]} * square(state.rest.data() + i * width_);
    }
    return error;
  }

 private:
  void add(float sign, std::size_t m, std::uint32_t code, float* out) const {
    const float* entry = books_[m][code];
    for (std::size_t d = 0; d < width_; ++d) out[d] += sign * entry[d];
  }

  float square(const float* x) const { return std::inner_product(x, x + width_, x, 0.0f); }

  /// Replaces the code of book m in each hypothesis and keeps the best.
  void step(std::size_t count, std::size_t m, bool restart, State& s) const {
    const std::size_t books = books_.size(), queries = count * s.live;
    const std::size_t next_live = m + 1 == books ? 1 : std::min(beam_, s.live * books_[m].size);
    const std::size_t tried = std::min(next_live, books_[m].size);  // per hypothesis
    s.norm.resize(queries);
    s.score.resize(queries * tried);
    s.index.resize(queries * tried);
    for (std::size_t q = 0; q < queries; ++q) {
      float* rest = s.rest.data() + q * width_;
      if (!restart) add(1, m, s.codes[q * books + m], rest);
      s.norm[q] = 0.5f * square(rest);
    }
    if (tried == 1) {
      nearest_ops().nearest(s.rest.data(), width_, queries, tables_[m].view(), s.index.data(),
                            s.score.data());
    } else {
      nearest_ops().top(s.rest.data(), width_, queries, tables_[m].view(), tried, s.index.data(),
                        s.score.data());
    }

    s.next_rest.resize(count * next_live * width_);
    s.next_codes.resize(count * next_live * books);
    std::vector<std::size_t> taken(s.live);
    for (std::size_t i = 0; i < count; ++i) {
      // A merge of the hypotheses' ascending lists.
      std::fill(taken.begin(), taken.end(), 0);
      for (std::size_t kept = 0; kept < next_live; ++kept) {
        std::size_t from = s.live;
        float least = std::numeric_limits<float>::infinity();
        for (std::size_t h = 0; h < s.live; ++h) {
          if (taken[h] == tried) continue;
          const std::size_t q = i * s.live + h;
          const float half_error = s.norm[q] + s.score[q * tried + taken[h]];
          if (from == s.live || half_error < least) {
            from = h;
            least = half_error;
          }
        }
        const std::size_t q = i * s.live + from, to = i * next_live + kept;
        const std::uint32_t code = s.index[q * tried + taken[from]++];
        const float* entry = books_[m][code];
        for (std::size_t d = 0; d < width_; ++d) {
          s.next_rest[to * width_ + d] = s.rest[q * width_ + d] - entry[d];
        }
        for (std::size_t b = 0; b < books; ++b) {
          s.next_codes[to * books + b] = b == m ? code : s.codes[q * books + b];
        }
      }
    }
    s.rest.swap(s.next_rest);
    s.codes.swap(s.next_codes);
    s.live = next_live;
  }

  std::span<const Codebook> books_;
  std::size_t width_, beam_;
  std::vector<SearchTable> tables_;
};

/// The number of sums of entries, one of each book; anything above kMostTried stands for more.
std::size_t count_sums(std::span<const Codebook> books) {
  std::size_t sums = 1;
  for (const Codebook& book : books) sums *= sums > kMostTried ? 1 : book.size;
  return sums;
}

/// Every sum of entries, one of each book: the first book's index varies fastest.
Codebook all_sums(std::span<const Codebook> books, std::size_t dim, std::size_t count) {
  Codebook sums(dim, count);
  for (std::size_t s = 0; s < count; ++s) {
    std::size_t digits = s;
    for (const Codebook& book : books) {
      for (std::size_t d = 0; d < dim; ++d) sums[s][d] += book[digits % book.size][d];
      digits /= book.size;
    }
  }
  return sums;
}

/// The best codes of vectors [begin, end), at most kBatch, found among all sums of entries.
double nearest_sums(const VectorSet& set, std::span<const Codebook> books, const Codebook& sums,
                    const SearchTable& table, std::size_t begin, std::size_t end, Codes& codes) {
  std::array<std::uint32_t, kBatch> nearest;
  std::array<float, kBatch> score;
  nearest_ops().nearest(set[begin], set.dim, end - begin, table.view(), nearest.data(),
                        score.data());
  double error = 0;
  for (std::size_t i = begin; i < end; ++i) {
    const std::uint32_t found = nearest[i - begin];
    std::uint32_t digits = found;
    for (std::size_t m = 0; m < books.size(); ++m) {
      const auto size = static_cast<std::uint32_t>(books[m].size);
      codes[i * books.size() + m] = digits % size;
      digits /= size;
    }
    float square = 0;
    for (std::size_t d = 0; d < set.width(i); ++d) {
      const float difference = set[i][d] - sums[found][d];
      square += difference * difference;
    }
    error += double{set.weights[i]} * square;
  }
  return error;
}

}  // namespace

float round_scales(std::vector<float>& scales) {
  const float gain = gain_for(scales);
  for (float& scale : scales) scale = gain * from_f16(to_f16(scale / gain));
  return gain;
}

void round_codebooks(std::span<Codebook> books) {
  for (Codebook& book : books) {
    for (float& value : book.values) value = from_f16(to_f16(value));
  }
}

VectorSet normalise(ConstMatrixView w, const VectorLayout& layout, std::span<const float> scales,
                    std::span<const float> importance, ThreadPool& pool) {
  const std::size_t lines = layout.lines(), dim = layout.dim;
  VectorSet set;
  set.dim = dim;
  set.short_dim = layout.length() % dim;
  set.short_begin = layout.length() / dim * lines;
  set.values.resize(layout.size() * dim);
  set.weights.resize(layout.size());
  // Relative to the largest scale: the squares stay in range.
  const float largest = *std::max_element(scales.begin(), scales.end());
  parallel_for(pool, lines, 64, [&](std::size_t begin, std::size_t end) {
    for (std::size_t block = 0; block < layout.blocks(); ++block) {
      for (std::size_t line = begin; line < end; ++line) {
        const std::size_t i = block * lines + line, first = block * dim;
        const float share = largest > 0 ? scales[line] / largest : 0.0f;
        set.weights[i] = share * share * (importance.empty() ? 1.0f : importance[line]);
        if (!(scales[line] > 0)) continue;
        for (std::size_t d = 0; d < set.width(i); ++d) {
          const float value = layout.down ? w(first + d, line) : w(line, first + d);
          set.values[i * dim + d] = value / scales[line];
        }
      }
    }
  });
  return set;
}

void refit_scales(const VectorSet& set, std::span<const Codebook> books, const Codes& codes,
                  std::vector<float>& scales, ThreadPool& pool) {
  const std::size_t lines = scales.size();
  parallel_for(pool, lines, 64, [&](std::size_t begin, std::size_t end) {
    std::vector<double> dot(end - begin), square(end - begin);
    std::vector<float> rest(set.dim);
    for (std::size_t first = 0; first < set.size(); first += lines) {
      for (std::size_t line = begin; line < end; ++line) {
        const std::size_t i = first + line;
        remainder(set, books, codes, i, books.size(), rest.data());
        for (std::size_t d = 0; d < set.width(i); ++d) {
          const double fitted = double{set[i][d]} - rest[d];
          dot[line - begin] += fitted * set[i][d];
          square[line - begin] += fitted * fitted;
        }
      }
    }
    for (std::size_t line = begin; line < end; ++line) {
      const double d = dot[line - begin], s = square[line - begin];
      if (d > 0 && s > 0) scales[line] *= static_cast<float>(std::min(d / s, kMostGrowth));
    }
  });
}

void refit_codebooks(const VectorSet& set, std::span<Codebook> books, const Codes& codes,
                     ThreadPool& pool) {
  for (int sweep = 0; sweep < (books.size() == 1 ? 1 : kSweeps); ++sweep) {
    for (std::size_t m = 0; m < books.size(); ++m) refit_codebook(set, books, codes, m, pool);
  }
}

struct CodeSearch::Tables {
  std::span<const Codebook> books;
  std::size_t dim;
  Codebook sums;  // empty where there are too many to try them all
  std::vector<SearchTable> sum_tables;
  std::vector<BatchSearch> beams;  // whole vectors, short ones
};

CodeSearch::CodeSearch(std::span<const Codebook> books, std::size_t dim, std::size_t short_dim,
                       std::size_t beam) {
  auto tables = std::make_unique<Tables>();
  tables->books = books;
  tables->dim = dim;
  const std::size_t count = count_sums(books);
  for (const std::size_t width : {dim, short_dim}) {
    if (beam == 1 || count > kMostTried) {
      tables->beams.emplace_back(books, width, beam);
      continue;
    }
    if (tables->sums.size == 0) tables->sums = all_sums(books, dim, count);
    tables->sum_tables.emplace_back(tables->sums, width);
  }
  tables_ = std::move(tables);
}

CodeSearch::~CodeSearch() = default;

double CodeSearch::search(const VectorSet& set, std::size_t begin, std::size_t end, bool restart,
                          Codes& codes) const {
  const std::size_t cut = std::clamp(set.short_begin, begin, end);
  double error = 0;
  BatchSearch::State state;
  for (std::size_t i = begin; i < end;) {
    const std::size_t stop = std::min(i + kBatch, i < cut ? cut : end);
    const std::size_t shorter = i < cut ? 0 : 1;
    error += tables_->sums.size == 0
                 ? tables_->beams[shorter].run(set, i, stop, restart, codes, state)
                 : nearest_sums(set, tables_->books, tables_->sums, tables_->sum_tables[shorter], i,
                                stop, codes);
    i = stop;
  }
  return error;
}

double beam_search(const VectorSet& set, std::span<const Codebook> books, std::size_t beam,
                   bool restart, Codes& codes, ThreadPool& pool) {
  const CodeSearch search(books, set.dim, set.short_dim, beam);
  std::vector<double> errors((set.size() + kChunk - 1) / kChunk);
  parallel_for(pool, set.size(), kChunk, [&](std::size_t begin, std::size_t end) {
    errors[begin / kChunk] = search.search(set, begin, end, restart, codes);
  });
  return std::accumulate(errors.begin(), errors.end(), 0.0);
}

std::vector<float> start_scales(ConstMatrixView weights, const VectorLayout& layout,
                                const AdditiveOptions& options, float& gain) {
  std::vector<float> scales = root_mean_squares(weights, layout.down);
  gain = options.half_scales ? round_scales(scales) : 1;
  return scales;
}

std::size_t training_vectors(const AdditiveOptions& options) {
  const std::size_t entries = *std::max_element(options.sizes.begin(), options.sizes.end());
  return std::max(kTrainLeast, kTrainPerEntry * entries);
}

std::vector<Codebook> learn_codebooks(const VectorSet& set, const AdditiveOptions& options,
                                      const EncodeContext& context) {
  std::vector<Codebook> books = residual_kmeans(set, options, context);
  Codes codes(set.size() * books.size());
  double before = std::numeric_limits<double>::infinity();
  for (int round = 0; round < options.rounds; ++round) {
    const double error = beam_search(set, books, options.beam, round == 0, codes, context.pool);
    if (!(error < before * (1 - options.tolerance))) break;
    before = error;
    refit_codebooks(set, books, codes, context.pool);
  }
  return books;
}

AdditiveCode additive_encode(ConstMatrixView weights, const VectorLayout& layout,
                             const AdditiveOptions& asked, const EncodeContext& context) {
  ThreadPool& pool = context.pool;
  const bool learn = asked.books.empty();
  AdditiveOptions options = asked;  // books of no more entries than vectors, for now
  for (std::size_t& size : options.sizes) size = std::min(size, layout.size());
  AdditiveCode code;
  code.scales = start_scales(weights, layout, options, code.gain);
  VectorSet all = normalise(weights, layout, code.scales, options.importance, pool);
  if (learn) {
    const CounterRng rng(context.seed, fmt::format("{}/sample", context.key));
    code.books = learn_codebooks(sample(all, training_vectors(options), rng), options, context);
  } else {
    code.books = asked.books;
  }

  code.codes.resize(layout.size() * code.books.size());
  const auto refit_all_scales = [&] {
    refit_scales(all, code.books, code.codes, code.scales, pool);
    if (options.half_scales) code.gain = round_scales(code.scales);
  };
  if (options.rounds > 0) {  // once more, now on the whole matrix
    beam_search(all, code.books, options.beam, true, code.codes, pool);
    if (learn) refit_codebooks(all, code.books, code.codes, pool);
    refit_all_scales();
    all = normalise(weights, layout, code.scales, options.importance, pool);
  }
  round_codebooks(code.books);
  beam_search(all, code.books, options.beam, options.rounds == 0, code.codes, pool);
  if (options.rounds > 0) refit_all_scales();
  for (std::size_t m = 0; m < code.books.size(); ++m) {  // the entries left over are zero
    code.books[m].size = asked.sizes[m];
    code.books[m].values.resize(asked.sizes[m] * layout.dim);
  }
  return code;
}

Bytes pack_codebooks(std::span<const Codebook> books) {
  Bytes bytes;
  for (const Codebook& book : books) {
    for (const float value : book.values) {
      const std::uint16_t half = to_f16(value);
      const std::size_t at = bytes.size();
      bytes.resize(at + 2);
      std::memcpy(bytes.data() + at, &half, 2);
    }
  }
  return bytes;
}

std::vector<Codebook> unpack_codebooks(std::span<const std::byte> bytes, std::size_t dim,
                                       std::span<const std::size_t> sizes) {
  std::vector<Codebook> books;
  std::size_t at = 0;
  for (const std::size_t size : sizes) {
    Codebook& book = books.emplace_back(dim, size);
    if (2 * book.values.size() > bytes.size() - at) break;
    for (float& value : book.values) {
      std::uint16_t half = 0;
      std::memcpy(&half, bytes.data() + at, 2);
      value = from_f16(half);
      at += 2;
    }
  }
  if (books.size() != sizes.size() || at != bytes.size()) {
    fail("{} bytes of codebooks, which is not what the spec says", bytes.size());
  }
  return books;
}

void store_codebooks(std::span<const Codebook> books, const EncodeContext& context,
                     Packed& packed) {
  if (context.shared != nullptr) {
    packed.shared = context.shared;
  } else {
    packed.sections.push_back({"codebook", Part::codebooks, pack_codebooks(books)});
  }
}

}  // namespace squish::quant
