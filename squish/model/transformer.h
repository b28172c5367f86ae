#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/io/model_files.h"
#include "squish/model/kv_cache.h"
#include "squish/model/linear.h"
#include "squish/model/tokenizer.h"

/// The forward pass of the Llama and Qwen families over `Linear` layers.
namespace squish::model {

struct Layer {
  std::unique_ptr<Linear> q, k, v, o, gate, up, down;
  std::vector<float> q_bias, k_bias, v_bias, o_bias;   // Qwen2: q, k, v; empty: none
  std::vector<float> input_norm, post_attention_norm;  // hidden
  std::vector<float> q_norm, k_norm;                   // Qwen3: head_dim; empty: none
};

/// The embedding's rows, vocab x hidden, however they are stored.
struct Embedding {
  std::size_t rows = 0, cols = 0;
  std::function<void(std::size_t row, std::span<float> to)> read;
};
Embedding dense_embedding(std::shared_ptr<const Matrix> weights);
/// From where the files have it: row by row, unless its method mixes them, which has all rows as
/// floats. Error naming file and tensor if its checksum is wrong, or (when it is read) a row not
/// finite.
Embedding stored_embedding(const io::ModelFiles& files, ThreadPool& pool);

struct Transformer {
  io::ModelConfig config;
  Embedding embedding;
  std::vector<Layer> layers;
  std::vector<float> norm;        // hidden
  std::unique_ptr<Linear> head;   // vocab x hidden; the embedding when tied
  KvElement kv = KvElement::f32;  // what caches for it are made of, unless they are told
};

/// One matrix of the model as floats. Error naming file and tensor if a value is not finite.
Matrix load_weights(const io::ModelFiles& files, const std::string& name, ThreadPool& pool);

/// The head, which is the embedding where the two are tied, as floats: models that have the same
/// can share it.
std::shared_ptr<const Matrix> load_head(const io::ModelFiles& files, ThreadPool& pool);

/// The layer for a name of io::linear_names(); asked for in that order.
using LinearOf = std::function<std::unique_ptr<Linear>(const std::string& name)>;

/// Reads embedding, norms and biases from `files`.
Transformer build_transformer(const io::ModelFiles& files, std::shared_ptr<const Matrix> head,
                              ThreadPool& pool, const LinearOf& linear);

/// One block of the model as a model of its own, for run_blocks() and its halves; without embedding
/// and head.
Transformer build_block(const io::ModelFiles& files, std::size_t index, const LinearOf& linear,
                        ThreadPool& pool);

/// For windows of text: no kernel multiplies, and weights are decoded from where they lie at every
/// call, so that none of the models that are compared lies in memory as floats.
std::unique_ptr<Linear> linear_for_windows(const io::ModelFiles& files, const std::string& name,
                                           ThreadPool& pool);
Transformer load_for_windows(const io::ModelFiles& files, std::shared_ptr<const Matrix> head,
                             ThreadPool& pool);

/// For generation: every linear layer, the head among them, as it is stored where a kernel can
/// multiply that (see stored_linear() for `fused`), else as floats. Without a placement weights are
/// copied where they take at most half of the memory that is free, and stay mapped otherwise, but
/// for those that a kernel puts in an order of its own.
Transformer load_transformer(const io::ModelFiles& files, ThreadPool& pool,
                             std::size_t fused = kFewTokens,
                             std::optional<io::Placement> placement = {});

/// Runs `tokens` after what `cache` holds and appends to it. Returns the final normed hidden
/// states, tokens x hidden. Error if the cache is too small or an id is out of range.
Matrix forward(const Transformer& model, std::span<const TokenId> tokens, KvCache& cache,
               ThreadPool& pool);

/// forward() of one token after the other, whose buffers are kept: none is allocated for a token,
/// but where the embedding is compressed or RoPE depends on the length.
class Generator {
 public:
  Generator(const Transformer& model, KvCache& cache, ThreadPool& pool);
  ~Generator();
  /// Its final normed hidden state, 1 x hidden, until the next call.
  ConstMatrixView next(TokenId token);

 private:
  std::unique_ptr<class ForwardPass> pass_;
};

/// forward() of a text from its start in pieces, with an empty cache: what block 0 is given (Error
/// if an id is out of range); the blocks [first, last), in place; halves of one; the final norm, in
/// place.
Matrix embed(const Embedding& embedding, std::span<const TokenId> tokens);
void embed(const Embedding& embedding, std::span<const TokenId> tokens, MatrixView out);
void run_blocks(const Transformer& model, std::size_t first, std::size_t last, MatrixView hidden,
                KvCache& cache, ThreadPool& pool);
/// A block in its two halves, and what its linear layers are given, in their order: those of
/// attention in the first half, the others in the second. `hidden` is what the half is given.
enum class Half { attention, feed_forward };
enum class LayerInput { qkv, o, gate_up, down };
void run_half(const Transformer& model, std::size_t block, Half half, MatrixView hidden,
              KvCache& cache, ThreadPool& pool);
Matrix layer_input(const Transformer& model, std::size_t block, LayerInput input,
                   ConstMatrixView hidden, KvCache& cache, ThreadPool& pool);

/// run_blocks() for one window after another, whose buffers are kept for the next one of the same
/// length.
class BlockRunner {
 public:
  BlockRunner(const Transformer& model, KvCache& cache, ThreadPool& pool);
  ~BlockRunner();
  void run(std::size_t first, std::size_t last, MatrixView hidden);

 private:
  const Transformer& model_;
  KvCache& cache_;
  ThreadPool& pool_;
  std::unique_ptr<class ForwardPass> pass_;
};

void final_norm(const Transformer& model, MatrixView hidden, ThreadPool& pool);

/// hidden: n x hidden -> n x vocab.
void logits(const Transformer& model, ConstMatrixView hidden, MatrixView out, ThreadPool& pool);

}  // namespace squish::model
