#include "squish/quant/shared_codebooks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "squish/quant/additive.h"

namespace squish::quant {

Key share_key() {
  return choice_key("share", {"none", "role", "model"},
                    "codebooks, on a whole model: each matrix its own, or one set for all with "
                    "this spec of a role (all q_proj), or of the model");
}

Sharing sharing_of(const Spec& spec) {
  if (find_method(spec.method()).additive == nullptr) return Sharing::none;
  const std::string& word = spec.word("share");
  return word == "none" ? Sharing::none : word == "role" ? Sharing::role : Sharing::model;
}

struct SharedTraining::State {
  Spec spec;
  std::size_t weights;
  std::string key;
  std::uint64_t seed;
  ThreadPool& pool;
  VectorSet set;
};

SharedTraining::SharedTraining(const Spec& spec, std::size_t weights, std::string_view key,
                               std::uint64_t seed, ThreadPool& pool)
    : state_(new State{spec, weights, std::string(key), seed, pool, {}}) {}

SharedTraining::~SharedTraining() = default;

void SharedTraining::add(ConstMatrixView matrix, std::span<const float> importance,
                         std::string_view name) {
  check_weights(matrix);
  State& s = *state_;
  auto [layout, options] = find_method(s.spec.method()).additive(s.spec, matrix.rows, matrix.cols);
  if (layout.down) options.importance.assign(importance.begin(), importance.end());
  float gain = 1;
  const std::vector<float> scales = start_scales(matrix, layout, options, gain);
  VectorSet all = normalise(matrix, layout, scales, options.importance, s.pool);
  // A short vector, padded with zeros, would pass for a whole one: only where there are no others.
  if (all.short_begin > 0) {
    all.values.resize(all.short_begin * all.dim);
    all.weights.resize(all.short_begin);
  }
  const double energy = std::accumulate(all.weights.begin(), all.weights.end(), 0.0);
  if (!(energy > 0)) return;
  const double share = static_cast<double>(matrix.size()) / static_cast<double>(s.weights);
  const auto count =
      static_cast<std::size_t>(std::ceil(share * static_cast<double>(training_vectors(options))));
  const VectorSet some =
      sample(all, count, CounterRng(s.seed, fmt::format("{}/sample/{}", s.key, name)));
  const double scale = static_cast<double>(all.size()) / energy;
  for (const float weight : some.weights) {
    s.set.weights.push_back(static_cast<float>(scale * weight));
  }
  s.set.values.insert(s.set.values.end(), some.values.begin(), some.values.end());
  s.set.short_begin = s.set.size();
}

std::shared_ptr<const Section> SharedTraining::learn() {
  State& s = *state_;
  auto [layout, options] = find_method(s.spec.method()).additive(s.spec, 1, 1);
  const std::vector<std::size_t> sizes = options.sizes;
  s.set.dim = layout.dim;
  std::vector<Codebook> books(sizes.size());
  if (s.set.size() > 0) {
    for (std::size_t& size : options.sizes) size = std::min(size, s.set.size());
    books = learn_codebooks(s.set, options, {.pool = s.pool, .seed = s.seed, .key = s.key});
  }
  for (std::size_t m = 0; m < books.size(); ++m) {  // the entries left over are zero
    books[m].dim = layout.dim;
    books[m].size = sizes[m];
    books[m].values.resize(sizes[m] * layout.dim);
  }
  round_codebooks(books);
  return std::make_shared<const Section>(
      Section{"codebook", Part::codebooks, pack_codebooks(books)});
}

}  // namespace squish::quant
