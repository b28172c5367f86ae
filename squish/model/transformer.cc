#include "squish/model/transformer.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "squish/base/error.h"
#include "squish/base/memory.h"
#include "squish/linalg/vector_ops.isa.h"
#include "squish/model/attention.h"
#include "squish/model/rope.h"
#include "squish/model/stored_linear.h"

namespace squish::model {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

std::vector<float> load_vector(const io::ModelFiles& files, const std::string& name,
                               ThreadPool& pool) {
  const Matrix values = load_weights(files, name, pool);
  return {values.data(), values.data() + values.size()};
}

std::vector<float> load_optional(const io::ModelFiles& files, const std::string& name,
                                 ThreadPool& pool) {
  return files.table.contains(name) ? load_vector(files, name, pool) : std::vector<float>{};
}

StoredWeights stored_or_error(const io::ModelFiles& files, const std::string& name,
                              io::Placement placement) {
  return io::naming_file(files, [&] { return stored_weights(files.table.at(name), placement); });
}

/// Copies are faster to read, as long as there is room for them.
io::Placement placement_of(const io::ModelFiles& files) {
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : files.table.tensors) bytes += tensor.stored_bytes();
  const std::size_t free = available_memory();
  return free == 0 || bytes <= free / 2 ? io::Placement::copied : io::Placement::mapped;
}

void check_finite(std::span<const float> weights, std::size_t row, std::string_view path,
                  std::string_view name) {
  for (std::size_t j = 0; j < weights.size(); ++j) {
    if (std::isfinite(weights[j])) continue;
    fail("{}: tensor '{}' holds {} at row {}, column {}; expected finite weights", path, name,
         weights[j], row, j);
  }
}

Layer build_layer(const io::ModelFiles& files, std::size_t index, const LinearOf& linear,
                  ThreadPool& pool) {
  const std::string block = fmt::format("model.layers.{}.", index), self = block + "self_attn.";
  Layer layer;
  layer.q = linear(self + "q_proj.weight");
  layer.k = linear(self + "k_proj.weight");
  layer.v = linear(self + "v_proj.weight");
  layer.o = linear(self + "o_proj.weight");
  layer.gate = linear(block + "mlp.gate_proj.weight");
  layer.up = linear(block + "mlp.up_proj.weight");
  layer.down = linear(block + "mlp.down_proj.weight");
  layer.q_bias = load_optional(files, self + "q_proj.bias", pool);
  layer.k_bias = load_optional(files, self + "k_proj.bias", pool);
  layer.v_bias = load_optional(files, self + "v_proj.bias", pool);
  layer.o_bias = load_optional(files, self + "o_proj.bias", pool);
  layer.input_norm = load_vector(files, block + "input_layernorm.weight", pool);
  layer.post_attention_norm = load_vector(files, block + "post_attention_layernorm.weight", pool);
  layer.q_norm = load_optional(files, self + "q_norm.weight", pool);
  layer.k_norm = load_optional(files, self + "k_norm.weight", pool);
  return layer;
}

void build_layers(const io::ModelFiles& files, const LinearOf& linear, ThreadPool& pool,
                  Transformer& model) {
  model.norm = load_vector(files, "model.norm.weight", pool);
  for (std::size_t i = 0; i < files.config.layers; ++i) {
    model.layers.push_back(build_layer(files, i, linear, pool));
  }
}

void add(std::span<const float> x, std::span<float> y) {
  linalg::vector_ops().axpy(1, x.data(), x.size(), y.data());
}

}  // namespace

Matrix load_weights(const io::ModelFiles& files, const std::string& name, ThreadPool& pool) {
  Matrix weights =
      io::naming_file(files, [&] { return io::read_matrix(files.table.at(name), pool); });
  const std::string path = files.path.string();
  parallel_for(pool, weights.rows(), 256, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) check_finite(weights.row(i), i, path, name);
  });
  return weights;
}

std::shared_ptr<const Matrix> load_head(const io::ModelFiles& files, ThreadPool& pool) {
  const char* const name = files.config.tied_embeddings ? kEmbedding : kHead;
  return std::make_shared<const Matrix>(load_weights(files, name, pool));
}

Embedding dense_embedding(std::shared_ptr<const Matrix> weights) {
  const std::size_t rows = weights->rows(), cols = weights->cols();
  return {rows, cols, [weights = std::move(weights)](std::size_t row, std::span<float> to) {
            std::ranges::copy(weights->row(row), to.data());
          }};
}

Embedding stored_embedding(const io::ModelFiles& files, ThreadPool& pool) {
  const io::Tensor& tensor = files.table.at(kEmbedding);
  const std::string path = files.path.string();
  if (tensor.packed != nullptr) {
    const auto packed = io::naming_file(files, [&] { return stored_as_packed(tensor); });
    if (!quant::find_method(packed->spec.method()).rows_apart) {
      return dense_embedding(std::make_shared<const Matrix>(load_weights(files, kEmbedding, pool)));
    }
    const auto read = [packed, path, &pool](std::size_t row, std::span<float> to) {
      quant::dequantize(quant::row_of(*packed, row), MatrixView(to.data(), 1, to.size()), pool);
      check_finite(to, row, path, kEmbedding);
    };
    return {packed->rows, packed->cols, read};
  }
  io::naming_file(files, [&] { io::check_sum(tensor.bytes, tensor.sha256, tensor.name); });
  const auto read = [tensor, path](std::size_t row, std::span<float> to) {
    io::read_row(tensor, row, to);
    check_finite(to, row, path, kEmbedding);
  };
  return {tensor.rows(), tensor.cols(), read};
}

Transformer build_transformer(const io::ModelFiles& files, std::shared_ptr<const Matrix> head,
                              ThreadPool& pool, const LinearOf& linear) {
  Transformer model{files.config, stored_embedding(files, pool), {}, {}, nullptr};
  model.head = dense_linear(std::move(head));
  build_layers(files, linear, pool, model);
  return model;
}

Transformer build_block(const io::ModelFiles& files, std::size_t index, const LinearOf& linear,
                        ThreadPool& pool) {
  Transformer block{files.config, {}, {}, {}, nullptr};
  block.config.layers = 1;
  block.layers.push_back(build_layer(files, index, linear, pool));
  return block;
}

std::unique_ptr<Linear> linear_for_windows(const io::ModelFiles& files, const std::string& name,
                                           ThreadPool& pool) {
  const io::Tensor& tensor = files.table.at(name);
  if (tensor.packed != nullptr) {
    return packed_linear(naming_file(files, [&] { return stored_as_packed(tensor); }), 0);
  }
  load_weights(files, name, pool);  // to find out now if something is wrong with them
  const auto decode = [tensor](MatrixView out, ThreadPool& threads) {
    parallel_for(threads, out.rows, 64, [&](std::size_t begin, std::size_t end) {
      for (std::size_t row = begin; row < end; ++row) io::read_row(tensor, row, out.row(row));
    });
  };
  return stored_linear({tensor.rows(), tensor.cols(), tensor.bytes.size(), decode, nullptr}, 0);
}

Transformer load_for_windows(const io::ModelFiles& files, std::shared_ptr<const Matrix> head,
                             ThreadPool& pool) {
  return build_transformer(files, std::move(head), pool, [&](const std::string& name) {
    return linear_for_windows(files, name, pool);
  });
}

Transformer load_transformer(const io::ModelFiles& files, ThreadPool& pool, std::size_t fused,
                             std::optional<io::Placement> placement) {
  if (!placement) placement = placement_of(files);
  const auto linear = [&](const std::string& name) {
    StoredWeights stored = stored_or_error(files, name, *placement);
    if (stored.kernel != nullptr) return stored_linear(std::move(stored), fused);
    return dense_linear(std::make_shared<const Matrix>(load_weights(files, name, pool)));
  };
  Transformer model{files.config, stored_embedding(files, pool), {}, {}, nullptr};
  model.head = linear(files.config.tied_embeddings ? kEmbedding : kHead);
  build_layers(files, linear, pool, model);
  return model;
}

/// forward() of so many tokens: the buffers that its layers share.
class ForwardPass {
 public:
  ForwardPass(const Transformer& model, KvCache& cache, std::size_t tokens, ThreadPool& pool)
      : model_(model),
        config_(model.config),
        cache_(cache),
        pool_(pool),
        tokens_(tokens),
        rope_(config_, tokens),
        hidden_(tokens, config_.hidden),
        normed_(tokens, config_.hidden),
        queries_(tokens, config_.heads * config_.head_dim),
        attended_(tokens, config_.heads * config_.head_dim),
        keys_(tokens, config_.kv_heads * config_.head_dim),
        values_(tokens, config_.kv_heads * config_.head_dim),
        gate_(tokens, config_.intermediate),
        up_(tokens, config_.intermediate) {}

  /// The final normed hidden states, until the next call.
  Matrix& run(std::span<const TokenId> ids) {
    if (tokens_ > cache_.capacity() - cache_.length()) {
      fail("{} tokens after {} do not fit into a context of {}", tokens_, cache_.length(),
           cache_.capacity());
    }
    rope_.fill(config_, cache_.length());
    embed(model_.embedding, ids, hidden_);
    for_blocks(0, model_.layers.size());
    cache_.advance(tokens_);
    normalise(model_.norm);
    return normed_;
  }

  std::size_t tokens() const { return tokens_; }

  /// Returns what the block after them is given.
  ConstMatrixView run_blocks(std::size_t first, std::size_t last, ConstMatrixView given) {
    start(given);
    for_blocks(first, last);
    return hidden_;
  }

  ConstMatrixView run_half(std::size_t block, Half half, ConstMatrixView given) {
    start(given);
    if (half == Half::attention) {
      attention_block(block);
    } else {
      feed_forward_block(model_.layers[block]);
    }
    return hidden_;
  }

  Matrix layer_input(std::size_t block, LayerInput input, ConstMatrixView given) {
    start(given);
    const Layer& layer = model_.layers[block];
    switch (input) {
      case LayerInput::qkv:
        normalise(layer.input_norm);
        return std::move(normed_);
      case LayerInput::o:
        attend(block);
        return std::move(attended_);
      case LayerInput::gate_up:
        normalise(layer.post_attention_norm);
        return std::move(normed_);
      case LayerInput::down:
        gate(layer);
        return std::move(gate_);
    }
    return {};
  }

 private:
  void start(ConstMatrixView given) {
    rope_.fill(config_, cache_.length());
    copy_rows(given, hidden_);
  }

  void for_blocks(std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      attention_block(i);
      feed_forward_block(model_.layers[i]);
    }
  }

  template <class Body>
  void for_each_token(const Body& body) {
    parallel_for(pool_, tokens_, 16, [&](std::size_t begin, std::size_t end) {
      for (std::size_t t = begin; t < end; ++t) body(t);
    });
  }

  void normalise(const std::vector<float>& weight) {
    for_each_token([&](std::size_t t) {
      linalg::vector_ops().rms_norm(hidden_.row(t).data(), weight.data(), weight.size(),
                                    static_cast<float>(config_.norm_eps), normed_.row(t).data());
    });
  }

  /// hidden += normed (+ bias): `normed` has been overwritten with a block's output.
  void add_residual(const std::vector<float>& bias) {
    for_each_token([&](std::size_t t) {
      add(normed_.row(t), hidden_.row(t));
      add(bias, hidden_.row(t));
    });
  }

  /// Bias, then the norm of each head, then the rotation, as far as the model has them.
  void finish_heads(std::span<float> row, std::size_t t, const std::vector<float>& bias,
                    const std::vector<float>& norm) {
    const auto& ops = linalg::vector_ops();
    const std::size_t d = config_.head_dim;
    add(bias, row);
    for (float* head = row.data(); head != row.data() + row.size(); head += d) {
      if (!norm.empty()) {
        ops.rms_norm(head, norm.data(), d, static_cast<float>(config_.norm_eps), head);
      }
      ops.rotate(head, rope_.cos.row(t).data(), rope_.sin.row(t).data(), d / 2);
    }
  }

  void attention_block(std::size_t index) {
    attend(index);
    const Layer& layer = model_.layers[index];
    layer.o->apply(attended_, normed_, pool_);
    add_residual(layer.o_bias);
  }

  void feed_forward_block(const Layer& layer) {
    gate(layer);
    layer.down->apply(gate_, normed_, pool_);
    add_residual({});
  }

  /// What o_proj is given.
  void attend(std::size_t index) {
    const Layer& layer = model_.layers[index];
    normalise(layer.input_norm);
    const Linear* const inputs[] = {layer.q.get(), layer.k.get(), layer.v.get()};
    const MatrixView outputs[] = {queries_, keys_, values_};
    apply_all(inputs, normed_, outputs, pool_);
    for_each_token([&](std::size_t t) {
      finish_heads(queries_.row(t), t, layer.q_bias, layer.q_norm);
      finish_heads(keys_.row(t), t, layer.k_bias, layer.k_norm);
      add(layer.v_bias, values_.row(t));
    });
    cache_.store(index, keys_, values_, pool_);
    attention(config_, queries_, cache_.layer(index, cache_.length() + tokens_), attended_, pool_);
  }

  /// What down_proj is given.
  void gate(const Layer& layer) {
    normalise(layer.post_attention_norm);
    const Linear* const inputs[] = {layer.gate.get(), layer.up.get()};
    const MatrixView outputs[] = {gate_, up_};
    apply_all(inputs, normed_, outputs, pool_);
    for_each_token([&](std::size_t t) {
      linalg::vector_ops().silu_mul(gate_.row(t).data(), up_.row(t).data(), gate_.cols());
    });
  }

  const Transformer& model_;
  const io::ModelConfig& config_;
  KvCache& cache_;
  ThreadPool& pool_;
  const std::size_t tokens_;
  RopeTable rope_;
  Matrix hidden_, normed_;     // tokens x hidden
  Matrix queries_, attended_;  // tokens x (heads * head_dim)
  Matrix keys_, values_;       // tokens x (kv_heads * head_dim)
  Matrix gate_, up_;           // tokens x intermediate
};

void embed(const Embedding& embedding, std::span<const TokenId> tokens, MatrixView out) {
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] >= embedding.rows) {
      fail("token {} is not in the model's vocabulary of {}", tokens[t], embedding.rows);
    }
    embedding.read(tokens[t], out.row(t));
  }
}

Matrix embed(const Embedding& embedding, std::span<const TokenId> tokens) {
  Matrix hidden(tokens.size(), embedding.cols);
  embed(embedding, tokens, hidden);
  return hidden;
}

void run_blocks(const Transformer& model, std::size_t first, std::size_t last, MatrixView hidden,
                KvCache& cache, ThreadPool& pool) {
  BlockRunner(model, cache, pool).run(first, last, hidden);
}

BlockRunner::BlockRunner(const Transformer& model, KvCache& cache, ThreadPool& pool)
    : model_(model), cache_(cache), pool_(pool) {}

BlockRunner::~BlockRunner() = default;

void BlockRunner::run(std::size_t first, std::size_t last, MatrixView hidden) {
  assert(cache_.length() == 0 && hidden.rows <= cache_.capacity());
  if (pass_ == nullptr || pass_->tokens() != hidden.rows) {
    pass_.reset();  // before the next is there
    pass_ = std::make_unique<ForwardPass>(model_, cache_, hidden.rows, pool_);
  }
  copy_rows(pass_->run_blocks(first, last, hidden), hidden);
}

Matrix layer_input(const Transformer& model, std::size_t block, LayerInput input,
                   ConstMatrixView hidden, KvCache& cache, ThreadPool& pool) {
  assert(cache.length() == 0 && hidden.rows <= cache.capacity());
  return ForwardPass(model, cache, hidden.rows, pool).layer_input(block, input, hidden);
}

void run_half(const Transformer& model, std::size_t block, Half half, MatrixView hidden,
              KvCache& cache, ThreadPool& pool) {
  assert(cache.length() == 0 && hidden.rows <= cache.capacity());
  ForwardPass pass(model, cache, hidden.rows, pool);
  copy_rows(pass.run_half(block, half, hidden), hidden);
}

void final_norm(const Transformer& model, MatrixView hidden, ThreadPool& pool) {
  parallel_for(pool, hidden.rows, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      linalg::vector_ops().rms_norm(hidden.row(t).data(), model.norm.data(), model.norm.size(),
                                    static_cast<float>(model.config.norm_eps),
                                    hidden.row(t).data());
    }
  });
}

Matrix forward(const Transformer& model, std::span<const TokenId> tokens, KvCache& cache,
               ThreadPool& pool) {
  return std::move(ForwardPass(model, cache, tokens.size(), pool).run(tokens));
}

Generator::Generator(const Transformer& model, KvCache& cache, ThreadPool& pool)
    : pass_(std::make_unique<ForwardPass>(model, cache, 1, pool)) {}

Generator::~Generator() = default;

ConstMatrixView Generator::next(TokenId token) { return pass_->run({&token, 1}); }

void logits(const Transformer& model, ConstMatrixView hidden, MatrixView out, ThreadPool& pool) {
  model.head->apply(hidden, out, pool);
}

}  // namespace squish::model
