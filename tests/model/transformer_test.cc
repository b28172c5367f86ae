#include "squish/model/transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "tests/kernels/forced_panels.h"
#include "tests/model/recording_linear.h"

namespace squish::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// A model directory of tests/golden/tiny_models.py and what Hugging Face computes with it.
struct Golden {
  io::ModelFiles files;
  std::vector<TokenId> tokens;
  std::vector<std::size_t> positions;
  std::vector<std::vector<float>> logits, stepwise_logits;

  explicit Golden(const std::string& name)
      : files(io::open_model(SQUISH_TEST_DATA "/models/" + name)) {
    std::ifstream file(SQUISH_TEST_DATA "/models/" + name + "/golden.json");
    const auto json = nlohmann::json::parse(file);
    json.at("tokens").get_to(tokens);
    json.at("positions").get_to(positions);
    json.at("logits").get_to(logits);
    json.at("stepwise_logits").get_to(stepwise_logits);
  }

  Transformer load(ThreadPool& pool) const { return load_transformer(files, pool); }
};

/// Logits of all tokens, run in pieces of the given sizes.
Matrix run(const Transformer& model, const std::vector<TokenId>& tokens,
           const std::vector<std::size_t>& pieces, ThreadPool& pool) {
  KvCache cache(model.config, tokens.size());
  Generator generator(model, cache, pool);
  Matrix all(tokens.size(), model.config.vocab);
  for (const std::size_t n : pieces) {
    const std::size_t begin = cache.length();
    const MatrixView out = all.view().row_range(begin, begin + n);
    if (n == 1) {
      logits(model, generator.next(tokens[begin]), out, pool);
    } else {
      logits(model, forward(model, std::span(tokens).subspan(begin, n), cache, pool), out, pool);
    }
    EXPECT_EQ(cache.length(), begin + n);
  }
  return all;
}

/// Relative to the largest logit of the position.
double worst_error(const Matrix& got, const std::vector<std::size_t>& positions,
                   const std::vector<std::vector<float>>& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    float largest = 0, error = 0;
    for (std::size_t j = 0; j < got.cols(); ++j) {
      largest = std::max(largest, std::abs(expected[i][j]));
      error = std::max(error, std::abs(got(positions[i], j) - expected[i][j]));
    }
    worst = std::max(worst, static_cast<double>(error / largest));
  }
  return worst;
}

double worst_difference(const Matrix& a, const Matrix& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(a.data()[i] - b.data()[i])));
  }
  return worst;
}

class TinyModel : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(HuggingFace, TinyModel,
                         testing::Values("llama_tied", "llama_rope_llama3", "llama_rope_linear",
                                         "llama_rope_yarn", "llama_rope_dynamic",
                                         "llama_attention_bias", "mistral_window", "qwen2",
                                         "qwen3"),
                         [](const auto& model) { return model.param; });

TEST_P(TinyModel, SameLogitsAsHuggingFaceOnEveryInstructionSet) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  const Transformer model = golden.load(pool);
  const std::vector<std::size_t> steps(golden.tokens.size(), 1);
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (const auto path : kernels::available_panel_paths()) {
      const kernels::ForcedPanels forced(path);
      const Matrix whole = run(model, golden.tokens, {golden.tokens.size()}, pool);
      EXPECT_LT(worst_error(whole, golden.positions, golden.logits),
                path == kernels::PanelPath::f32 ? 1e-5 : 5e-2)
          << to_string(isa) << ' ' << to_string(path);
    }
    const Matrix stepwise = run(model, golden.tokens, steps, pool);
    EXPECT_LT(worst_error(stepwise, golden.positions, golden.stepwise_logits), 1e-5)
        << to_string(isa);
  }
  set_isa(before);
}

TEST_P(TinyModel, PromptInPiecesGivesTheSame) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  const Transformer model = golden.load(pool);
  const kernels::ForcedPanels exact("f32");
  const Matrix pieces = run(model, golden.tokens, {17, 1, 0, 2, 28}, pool);
  const double error = worst_error(pieces, golden.positions, golden.logits);
  if (model.config.rope.scaling == io::Rope::Scaling::dynamic_ntk) {
    EXPECT_GT(error, 1e-3);  // the frequencies depend on how the prompt is cut (rope.h)
  } else {
    EXPECT_LT(error, 1e-5);
  }
}

TEST_P(TinyModel, BlocksOneByOneGiveTheSame) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  const Transformer model = golden.load(pool);
  KvCache cache(model.config, golden.tokens.size());
  Matrix hidden = embed(model.embedding, golden.tokens);
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    run_blocks(model, i, i + 1, hidden, cache, pool);
  }
  final_norm(model, hidden, pool);
  EXPECT_EQ(worst_difference(hidden, forward(model, golden.tokens, cache, pool)), 0);
}

TEST_P(TinyModel, HalvesOfABlockAndTheirInputsAreItsOwn) {
  ThreadPool pool(2);
  const Golden golden(GetParam());
  std::map<std::string, test::Rows> seen;
  const Transformer model = test::recording_model(golden.files, golden.files, seen, pool);
  KvCache cache(model.config, golden.tokens.size());
  Matrix hidden = embed(model.embedding, golden.tokens), whole = hidden;
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    run_blocks(model, i, i + 1, whole, cache, pool);
    const auto given = seen;
    const auto expect = [&](LayerInput input, const char* linear) {
      const test::Rows& expected = given.at(fmt::format("model.layers.{}.{}.weight", i, linear));
      const Matrix found = layer_input(model, i, input, hidden, cache, pool);
      ASSERT_EQ(found.rows(), expected.size()) << linear;
      for (std::size_t t = 0; t < found.rows(); ++t) {
        EXPECT_TRUE(std::ranges::equal(found.row(t), expected[t])) << linear << " " << t;
      }
    };
    expect(LayerInput::qkv, "self_attn.k_proj");
    expect(LayerInput::o, "self_attn.o_proj");
    run_half(model, i, Half::attention, hidden, cache, pool);
    expect(LayerInput::gate_up, "mlp.up_proj");
    expect(LayerInput::down, "mlp.down_proj");
    run_half(model, i, Half::feed_forward, hidden, cache, pool);
    EXPECT_TRUE(std::equal(whole.data(), whole.data() + whole.size(), hidden.data()));
  }
}

TEST_P(TinyModel, SameBitsForEveryNumberOfThreads) {
  const Golden golden(GetParam());
  std::vector<Matrix> results;
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    results.push_back(run(golden.load(pool), golden.tokens, {40, 1, 1, 6}, pool));
    EXPECT_EQ(worst_difference(results.back(), results.front()), 0) << threads;
  }
}

TEST(Transformer, RunsOnPackedLayersAskedForInOrder) {
  const Golden golden("qwen3");
  ThreadPool pool(2);
  std::vector<std::string> asked;
  const Transformer packed = build_transformer(
      golden.files, load_head(golden.files, pool), pool, [&](const std::string& name) {
        asked.push_back(name);
        return packed_linear(std::make_shared<const quant::Packed>(
            quant::quantize(load_weights(golden.files, name, pool),
                            quant::Spec::parse("int8:sym=0,g=16"), {.pool = pool})));
      });
  EXPECT_EQ(asked, io::linear_names(golden.files.config));
  const Matrix logits = run(packed, golden.tokens, {golden.tokens.size()}, pool);
  const double error = worst_error(logits, golden.positions, golden.logits);
  EXPECT_LT(error, 0.05);
  EXPECT_GT(error, 1e-4);  // they are not the dense layers
}

TEST(Transformer, IsTheSameFromMappedWeightsAsFromCopies) {
  for (const char* name : {"llama_tied", "qwen2", "qwen3"}) {
    const Golden golden(name);
    ThreadPool pool(2);
    const Transformer copied = load_transformer(golden.files, pool, 4, io::Placement::copied),
                      mapped = load_transformer(golden.files, pool, 4, io::Placement::mapped);
    const std::size_t n = golden.tokens.size();
    const std::vector<std::size_t> pieces = {1, 2, n - 3};
    const Matrix a = run(copied, golden.tokens, pieces, pool),
                 b = run(mapped, golden.tokens, pieces, pool);
    EXPECT_TRUE(std::equal(a.data(), a.data() + a.size(), b.data())) << name;
  }
}

TEST(Transformer, EmbeddingRowsAreThoseOfTheMatrix) {
  ThreadPool pool(2);
  for (const char* name : {"llama_tied", "qwen2"}) {
    const Golden golden(name);
    const Embedding stored = stored_embedding(golden.files, pool);
    const Matrix whole = load_weights(golden.files, "model.embed_tokens.weight", pool);
    ASSERT_EQ(stored.rows, whole.rows());
    ASSERT_EQ(stored.cols, whole.cols());
    std::vector<float> row(stored.cols);
    for (std::size_t i = 0; i < stored.rows; ++i) {
      stored.read(i, row);
      ASSERT_TRUE(std::ranges::equal(row, whole.row(i))) << name << " " << i;
    }
    EXPECT_THROW(embed(stored, std::vector<TokenId>{static_cast<TokenId>(stored.rows)}), Error);
  }
}

TEST(Transformer, TiedHeadIsTheEmbedding) {
  ThreadPool pool(1);
  for (const char* name : {"llama_tied", "qwen2"}) {
    const Golden golden(name);
    const Matrix embedding = load_weights(golden.files, "model.embed_tokens.weight", pool);
    const auto head = load_head(golden.files, pool);
    ASSERT_EQ(head->size(), embedding.size());
    const bool is_equal = std::equal(head->data(), head->data() + head->size(), embedding.data());
    EXPECT_EQ(is_equal, golden.files.config.tied_embeddings) << name;
  }
}

TEST(Transformer, ForWindowsIsThatOfTheSameWeightsAsFloats) {
  for (const char* name : {"llama_tied", "qwen2", "qwen3"}) {
    const Golden golden(name);
    ThreadPool pool(2);
    const auto head = load_head(golden.files, pool);
    const Transformer decoded = load_for_windows(golden.files, head, pool),
                      dense = build_transformer(
                          golden.files, head, pool, [&](const std::string&linear) {
                            return dense_linear(std::make_shared<const Matrix>(
                                load_weights(golden.files, linear, pool)));
                          });
    const std::vector<std::size_t> pieces = {golden.tokens.size()};
    const Matrix a = run(decoded, golden.tokens, pieces, pool),
                 b = run(dense, golden.tokens, pieces, pool);
    EXPECT_TRUE(std::equal(a.data(), a.data() + a.size(), b.data())) << name;
  }
}

TEST(Transformer, RefusesWhatDoesNotFit) {
  const Golden golden("llama_tied");
  ThreadPool pool(1);
  const Transformer model = golden.load(pool);
  KvCache cache(model.config, 5);
  const std::vector<TokenId> three = {1, 2, 3}, unknown = {1, 128};
  forward(model, three, cache, pool);
  EXPECT_THAT([&] { forward(model, three, cache, pool); },
              ThrowsMessage<Error>("3 tokens after 3 do not fit into a context of 5"));
  EXPECT_THAT([&] { forward(model, unknown, cache, pool); },
              ThrowsMessage<Error>("token 128 is not in the model's vocabulary of 128"));
  EXPECT_EQ(cache.length(), 3u);
  // 2 layers, keys and values, 2 heads of 8 floats.
  EXPECT_EQ(cache.bytes(), 3u * 2 * 2 * 2 * 8 * 4);
  io::ModelConfig windowed = model.config;
  windowed.sliding_window = 2;  // no more than these are read
  KvCache short_sighted(windowed, 5);
  forward(model, three, short_sighted, pool);
  EXPECT_EQ(short_sighted.bytes(), 2u * 2 * 2 * 2 * 8 * 4);
  cache.clear();
  EXPECT_EQ(cache.length(), 0u);
  EXPECT_EQ(forward(model, three, cache, pool).rows(), 3u);
}

TEST(Transformer, RefusesWeightsThatAreNotFinite) {
  ThreadPool pool(2);
  for (const std::string name : {"model.layers.1.mlp.up_proj.weight", "model.norm.weight",
                                 "model.layers.0.self_attn.k_proj.bias"}) {
    Golden golden("qwen2");  // F32
    io::Tensor& tensor = golden.files.table.tensors.at(name);
    std::vector<float> values(tensor.elements());
    values.back() = -std::numeric_limits<float>::infinity();
    tensor.bytes = std::as_bytes(std::span(values));
    EXPECT_THAT([&] { golden.load(pool); },
                ThrowsMessage<Error>(
                    AllOf(HasSubstr("models/qwen2: tensor '" + name + "'"), HasSubstr("-inf"))));
  }
}

}  // namespace
}  // namespace squish::model
