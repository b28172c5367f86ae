#include "squish/compress/sequential.h"

#include <algorithm>
#include <cassert>
#include <memory>

#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/linalg/outer_product.h"
#include "squish/linalg/solve.h"
#include "squish/quant/quantizer.h"

namespace squish::compress {
namespace {

using model::Half;
using model::LayerInput;

constexpr std::size_t kLinearsOfBlock = 7;
// Of linear_names() in a block, the first with each input, and the half of the block it is in.
constexpr std::size_t kFirst[] = {0, 3, 4, 6};
constexpr LayerInput kInputs[] = {LayerInput::qkv, LayerInput::o, LayerInput::gate_up,
                                  LayerInput::down};
constexpr Half kHalves[] = {Half::attention, Half::feed_forward};
constexpr std::size_t kEndOfHalf[] = {4, 7};

constexpr const char* kEmbedding = "model.embed_tokens.weight";

// As squish calibrate has it.
constexpr float kLargestActivation = quant::kLargestWeight;

// Relative to the mean of H's diagonal: where x̂ hardly varies, what (x - x̂) seems to owe it is
// chance.
constexpr double kRidge = 0.01;

std::unique_ptr<model::Linear>& linear_at(model::Layer& layer, std::size_t index) {
  std::unique_ptr<model::Linear>* const all[] = {&layer.q,    &layer.k,  &layer.v,   &layer.o,
                                                 &layer.gate, &layer.up, &layer.down};
  return *all[index];
}

std::unique_ptr<model::Linear> dense(Matrix weights) {
  return model::dense_linear(std::make_shared<const Matrix>(std::move(weights)));
}

std::size_t longest(std::span<const std::vector<model::TokenId>> windows) {
  std::size_t length = 0;
  for (const auto& window : windows) length = std::max(length, window.size());
  return length;
}

/// a - b, into a.
void subtract(std::span<float> a, std::span<const float> b) {
  for (std::size_t j = 0; j < a.size(); ++j) a[j] -= b[j];
}

/// Sums over tokens, while they are made.
struct Sums {
  std::size_t width, tokens = 0;
  AlignedVector<double> sum, products;    // of x̂, of x̂ x̂ᵀ (its triangle)
  AlignedVector<double> shift, residual;  // of (x - x̂) x̂ᵀ, of (r - r̂) x̂ᵀ

  Sums(std::size_t n, std::size_t stream)
      : width(n), sum(n), products(linalg::triangle_size(n)), shift(n * n), residual(stream * n) {}

  /// `x` and `r` become differences from `own` and `own_r`; `r` has no columns where it is not
  /// wanted. Tokens at which one of them is not finite do not count.
  void add(Matrix x, Matrix own, Matrix r, ConstMatrixView own_r, ThreadPool& pool) {
    const auto good = [](std::span<const float> row) {
      return linalg::all_within(row, kLargestActivation);
    };
    std::size_t kept = 0;
    for (std::size_t t = 0; t < x.rows(); ++t) {
      if (!good(x.row(t)) || !good(own.row(t))) continue;
      if (r.cols() > 0 && (!good(r.row(t)) || !good(own_r.row(t)))) continue;
      subtract(x.row(t), own.row(t));
      if (r.cols() > 0) subtract(r.row(t), own_r.row(t));
      for (Matrix* const matrix : {&x, &own, &r}) {
        if (kept < t) std::ranges::copy(matrix->row(t), matrix->row(kept).data());
      }
      ++kept;
    }
    tokens += kept;
    const ConstMatrixView behind = own.view().row_range(0, kept);
    linalg::add_rows(behind, sum, pool);
    linalg::add_outer_products(behind, products, pool);
    linalg::add_cross_products(x.view().row_range(0, kept), behind, shift, pool);
    if (r.cols() > 0) {
      linalg::add_cross_products(r.view().row_range(0, kept), behind, residual, pool);
    }
  }
};

/// Times (H + ridge)⁻¹; empty where all is zero, or no ridge up to the mean of the diagonal makes H
/// invertible.
Matrix regressed(const linalg::SymmetricMatrix& second, std::span<double> on, ThreadPool& pool) {
  if (std::ranges::all_of(on, [](double value) { return value == 0; })) return {};
  const std::size_t n = second.size();
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += second(i, i) / static_cast<double>(n);
  for (double ridge = kRidge; ridge <= 1; ridge *= 10) {
    linalg::SymmetricMatrix h = second;
    for (std::size_t i = 0; i < n; ++i) h(i, i) += ridge * mean;
    if (!linalg::solve_right(h, on, pool)) continue;
    Matrix found(on.size() / n, n);
    std::transform(on.begin(), on.end(), found.data(),
                   [](double value) { return static_cast<float>(value); });
    return found;
  }
  return {};
}

}  // namespace

SequentialInputs::SequentialInputs(const io::ModelFiles& files,
                                   std::span<const std::vector<model::TokenId>> windows,
                                   Compressed compressed, ThreadPool& pool)
    : files_(files),
      windows_(windows),
      compressed_(std::move(compressed)),
      pool_(pool),
      names_(io::linear_names(files.config)),
      cache_(files.config, longest(windows)) {
  assert(names_.size() == kLinearsOfBlock * files.config.layers);
}

/// Both streams to the first block.
void SequentialInputs::start() {
  for (Stream* const stream : {&original_, &own_}) {
    std::optional<Matrix> weights;
    if (stream == &own_) weights = compressed_(kEmbedding);
    if (!weights) weights = model::load_weights(files_, kEmbedding, pool_);
    const auto embedding = std::make_shared<const Matrix>(std::move(*weights));
    stream->model = model::build_transformer(
        files_, {embedding, embedding}, pool_,
        [](const std::string&) { return std::unique_ptr<model::Linear>(); });
    for (const auto& window : windows_) {
      stream->hidden.push_back(model::embed(stream->model, window));
    }
    stream->model.embedding.reset();  // not needed any more
    stream->model.head.reset();
  }
  for (Stream* const stream : {&original_, &own_}) load_block(*stream);
}

/// The linear layers of the block that the streams are at, from the model, and of no other.
void SequentialInputs::load_block(Stream& stream) {
  const std::size_t block = halves_ / 2;
  for (model::Layer& layer : stream.model.layers) {
    for (std::size_t i = 0; i < kLinearsOfBlock; ++i) linear_at(layer, i).reset();
  }
  for (std::size_t i = 0; block < stream.model.layers.size() && i < kLinearsOfBlock; ++i) {
    linear_at(stream.model.layers[block], i) =
        dense(model::load_weights(files_, names_[block * kLinearsOfBlock + i], pool_));
  }
}

/// Our stream's linear layers before `end` become what they were compressed to.
void SequentialInputs::install(std::size_t end) {
  for (; installed_ < end; ++installed_) {
    std::optional<Matrix> weights = compressed_(names_[installed_]);
    if (!weights) continue;
    linear_at(own_.model.layers[installed_ / kLinearsOfBlock], installed_ % kLinearsOfBlock) =
        dense(std::move(*weights));
  }
}

/// Both streams, one half of a block further.
void SequentialInputs::advance() {
  const std::size_t block = halves_ / 2, half = halves_ % 2;
  install(block * kLinearsOfBlock + kEndOfHalf[half]);
  for (Stream* const stream : {&original_, &own_}) {
    for (Matrix& hidden : stream->hidden) {
      stop_if_interrupted();
      model::run_half(stream->model, block, kHalves[half], hidden, cache_, pool_);
    }
  }
  ++halves_;
  if (halves_ % 2 == 0) {
    load_block(original_);
    load_block(own_);
  }
}

SequentialInput SequentialInputs::measure(LayerInput input) {
  const std::size_t block = halves_ / 2;
  const auto given = [&](const Stream& stream, std::size_t window) {
    return model::layer_input(stream.model, block, input, stream.hidden[window], cache_, pool_);
  };
  const bool to_stream = input == LayerInput::o || input == LayerInput::down;
  std::optional<Sums> sums;
  for (std::size_t window = 0; window < own_.hidden.size(); ++window) {
    stop_if_interrupted();
    Matrix x = given(original_, window), own = given(own_, window);
    const Matrix& stream = original_.hidden[window];
    if (!sums) sums.emplace(x.cols(), to_stream ? stream.cols() : 0);
    sums->add(std::move(x), std::move(own), to_stream ? stream : Matrix(stream.rows(), 0),
              own_.hidden[window], pool_);
  }
  const std::string& name = names_[block * kLinearsOfBlock + kFirst[static_cast<int>(input)]];
  if (!sums || sums->tokens == 0) {
    fail("{}: no activation at the input of {} is finite", files_.path.string(), name);
  }
  const double share = 1 / static_cast<double>(sums->tokens);
  SequentialInput found;
  found.moments.second = linalg::expand_triangle(sums->products, sums->width, share);
  sums->products = {};
  for (const double sum : sums->sum) found.moments.mean.push_back(share * sum);
  for (auto* const all : {&sums->shift, &sums->residual}) {
    for (double& value : *all) value *= share;
  }
  found.correction = regressed(found.moments.second, sums->shift, pool_);
  sums->shift = {};
  found.residual = regressed(found.moments.second, sums->residual, pool_);
  return found;
}

SequentialInput SequentialInputs::at(const std::string& linear) {
  const auto index = static_cast<std::size_t>(std::ranges::find(names_, linear) - names_.begin());
  assert(index < names_.size());
  const std::size_t block = index / kLinearsOfBlock, within = index % kLinearsOfBlock;
  std::size_t input = 0;
  while (input + 1 < std::size(kFirst) && kFirst[input + 1] <= within) ++input;
  const std::size_t half = 2 * block + input / 2;
  assert(halves_ <= half);
  if (own_.hidden.empty()) start();
  while (halves_ < half) advance();
  install(block * kLinearsOfBlock + kFirst[input]);
  return measure(kInputs[input]);
}

std::size_t sequential_memory(const io::ModelFiles& files,
                              std::span<const std::vector<model::TokenId>> windows) {
  const io::ModelConfig& c = files.config;
  std::size_t tokens = 0;
  for (const auto& window : windows) tokens += window.size();
  const std::size_t window = longest(windows), attention = c.heads * c.head_dim,
                    kv = c.kv_heads * c.head_dim, width = std::max(c.intermediate, c.hidden);
  const std::size_t hidden = 2 * tokens * c.hidden * sizeof(float);
  const std::size_t cache = 2 * c.layers * window * kv * sizeof(float);
  const std::size_t blocks =
      2 * c.hidden * (2 * attention + 2 * kv + 3 * c.intermediate) * sizeof(float);
  const std::size_t pass =
      window * (2 * c.hidden + 2 * attention + 2 * kv + 2 * c.intermediate) * sizeof(float);
  const std::size_t inputs = 2 * window * width * sizeof(float);
  // The sums (of the square of the input's triangle, of the square, and of the stream's rows), H,
  // what of it is factored, and what comes of them.
  const std::size_t sums = width * width * (3 * sizeof(double) + sizeof(float)) +
                           c.hidden * width * (sizeof(double) + sizeof(float));
  return hidden + cache +
         std::max(blocks + pass + inputs + sums, c.vocab * c.hidden * sizeof(float));
}

}  // namespace squish::compress
