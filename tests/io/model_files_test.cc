#include "squish/io/model_files.h"

#include <gmock/gmock.h>

#include <cmath>

#include "squish/io/architecture.h"
#include "tests/io/tiny_model.h"

namespace squish::io {
namespace {

using namespace testing;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelFiles open_gguf(const std::string& content) {
  const TemporaryDirectory directory;
  return open_model(directory.write("m.gguf", content));
}

ModelFiles open_hf(const TinyModel& model) {
  const TemporaryDirectory directory;
  model.write_hf(directory);
  return open_model(directory.path());
}

std::string gguf_error(const std::string& content) {
  return error_of([&] { open_gguf(content); });
}

std::string hf_error(const TinyModel& model) {
  return error_of([&] { open_hf(model); });
}

void expect_weights(const ModelFiles& files, const TinyModel& model) {
  ThreadPool pool(2);
  EXPECT_EQ(files.table.tensors.size(), model.weights.size());
  for (const auto& [name, weights] : model.weights) {
    const Tensor& tensor = files.table.at(name);
    EXPECT_EQ(tensor.name, name);
    EXPECT_EQ(tensor.shape, weights.shape) << name;
    const Matrix matrix = read_matrix(tensor, pool);
    EXPECT_EQ(std::vector<float>(matrix.data(), matrix.data() + matrix.size()), weights.values)
        << name;
  }
}

void expect_config(const ModelConfig& config, Family family, bool tied) {
  EXPECT_EQ(config.family, family);
  EXPECT_EQ(config.vocab, TinyModel::kVocab);
  EXPECT_EQ(config.hidden, TinyModel::kHidden);
  EXPECT_EQ(config.intermediate, TinyModel::kIntermediate);
  EXPECT_EQ(config.layers, TinyModel::kLayers);
  EXPECT_EQ(config.heads, TinyModel::kHeads);
  EXPECT_EQ(config.kv_heads, TinyModel::kKvHeads);
  EXPECT_EQ(config.head_dim, TinyModel::kHeadDim);
  EXPECT_EQ(config.max_context, 64u);
  EXPECT_EQ(config.norm_eps, 0.125);
  EXPECT_EQ(config.rope.theta, 5000);
  EXPECT_EQ(config.rope.scaling, Rope::Scaling::none);
  EXPECT_EQ(config.tied_embeddings, tied);
  EXPECT_EQ(config.sliding_window, 0u);
}

class Families : public ::testing::TestWithParam<std::pair<const char*, Family>> {};

TEST_P(Families, OpenFromBothContainers) {
  const auto [name, family] = GetParam();
  const TinyModel model(name);
  const bool tied = family == Family::qwen3;

  const ModelFiles hf = open_hf(model);
  EXPECT_EQ(hf.container, "safetensors");
  EXPECT_EQ(hf.config.architecture, model.hf_architecture);
  EXPECT_FALSE(hf.source_quantized);
  EXPECT_EQ(hf.file_bytes, model.safetensors().build().size());
  expect_config(hf.config, family, tied);
  expect_weights(hf, model);

  const ModelFiles gguf = open_gguf(model.gguf());
  EXPECT_EQ(gguf.container, "gguf");
  EXPECT_EQ(gguf.config.architecture, name);
  EXPECT_EQ(gguf.file_bytes, model.gguf().size());
  expect_config(gguf.config, family, tied);
  expect_weights(gguf, model);
}

TEST_P(Families, EachMissingTensorIsNamed) {
  const TinyModel whole(GetParam().first);
  for (const auto& [name, weights] : whole.weights) {
    TinyModel model = whole;
    model.weights.erase(name);
    EXPECT_THAT(hf_error(model), HasSubstr("'" + name + "' is missing"));
    // GGUF has no flag for tied embeddings and biases: they are what the file holds.
    if (name == "lm_head.weight" || name.ends_with("q_proj.bias")) continue;
    EXPECT_NE(gguf_error(model.gguf()), "no error") << name;
  }
}

TEST_P(Families, EachWrongShapeIsNamed) {
  const TinyModel whole(GetParam().first);
  for (const auto& [name, weights] : whole.weights) {
    TinyModel model = whole;
    model.weights[name].shape.push_back(1);
    EXPECT_THAT(hf_error(model), HasSubstr("'" + name + "' has shape [")) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Families,
                         ::testing::Values(std::pair("llama", Family::llama),
                                           std::pair("qwen2", Family::qwen2),
                                           std::pair("qwen3", Family::qwen3)),
                         [](const auto& p) { return p.param.first; });

TEST(MarkInterleavedRows, LetsOneTensorBeReadInModelOrder) {
  ThreadPool pool(1);
  for (const char* family : {"llama", "qwen2"}) {
    const TinyModel model(family);
    const TemporaryDirectory directory;
    GgufFile file = read_gguf(directory.write("m.gguf", model.gguf()));
    mark_interleaved_rows(file);
    for (const auto& [gguf, hf] :
         {std::pair{"blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"},
          std::pair{"blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight"},
          std::pair{"blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight"}}) {
      const Matrix read = read_matrix(file.table.at(gguf), pool);
      const std::vector<float> values(read.data(), read.data() + read.size());
      EXPECT_EQ(values, model.weights.at(hf).values) << family << " " << gguf;
      EXPECT_EQ(hf_name(gguf), hf);
    }
  }
}

TEST(OpenModel, PathsThatAreNoModel) {
  const TemporaryDirectory directory;
  EXPECT_THAT(error_of([&] { open_model(directory.path() / "none"); }),
              HasSubstr("none: cannot be opened"));
  EXPECT_THAT(error_of([&] { open_model(directory.path()); }), HasSubstr("config.json"));
  EXPECT_THAT(gguf_error("# A text"), HasSubstr("not a GGUF file"));
}

TEST(OpenModel, SentenceForAWrongShape) {
  TinyModel model("llama");
  model.config["intermediate_size"] = 11;
  EXPECT_THAT(hf_error(model), HasSubstr("tensor 'model.layers.0.mlp.gate_proj.weight' has shape "
                                         "[10, 8], expected [11, 8]"));
}

TEST(OpenModel, TensorsThatDoNotBelong) {
  TinyModel model("llama");
  model.add("model.layers.0.self_attn.q_norm.weight", {TinyModel::kHeadDim});
  const std::string expected = "tensor 'model.layers.0.self_attn.q_norm.weight' does not belong";
  EXPECT_THAT(hf_error(model), HasSubstr(expected));
  EXPECT_THAT(gguf_error(model.gguf()), HasSubstr(expected));
}

TEST(OpenModel, LinearNamesAreInTheTable) {
  const ModelFiles files = open_hf(TinyModel("qwen3"));
  const auto names = linear_names(files.config);
  EXPECT_EQ(names.size(), 7 * TinyModel::kLayers);
  for (const std::string& name : names) EXPECT_EQ(files.table.at(name).shape.size(), 2u) << name;
}

// ---- config.json ----

TEST(HfConfig, WrongFieldsAreNamed) {
  const std::tuple<const char*, json, const char*> cases[] = {
      {"architectures", {"GPT2LMHeadModel"}, "unknown architecture 'GPT2LMHeadModel'"},
      {"architectures", "LlamaForCausalLM", "'architectures' must hold one name"},
      {"architectures", nullptr, "'architectures' must hold one name"},
      {"vocab_size", nullptr, "'vocab_size' is missing"},
      {"hidden_size", "8", "'hidden_size' must be a positive integer"},
      {"hidden_size", 0, "'hidden_size' must be a positive integer"},
      {"hidden_size", -8, "'hidden_size' must be a positive integer"},
      {"hidden_size", 8.0, "'hidden_size' must be a positive integer"},
      {"num_hidden_layers", std::uint64_t{1} << 60, "below 2^31"},
      {"num_hidden_layers", 0x7fffffff, "'model.layers.2.input_layernorm.weight' is missing"},
      {"num_key_value_heads", 3, "2 attention heads cannot share 3 key-value heads"},
      {"head_dim", 7, "expected an even number"},
      {"rms_norm_eps", 0, "must be positive"},
      {"rms_norm_eps", "1e-5", "'rms_norm_eps' must be a number"},
      {"rope_theta", 1, "rope base 1, expected a number above 1"},
      {"tie_word_embeddings", 1, "'tie_word_embeddings' must be true or false"},
      {"hidden_act", "gelu", "hidden_act 'gelu', expected silu"},
      {"mlp_bias", true, "mlp_bias is not supported"},
      {"quantization_config", json::object(), "already quantised"},
      {"attention_bias", true, "'model.layers.0.self_attn.q_proj.bias' is missing"},
      {"rope_scaling", 1, "rope_scaling: expected a JSON object"},
      {"rope_scaling", {{"type", "su"}}, "unknown rope type 'su'"},
      {"rope_scaling", {{"type", "linear"}}, "'factor' is missing"},
      {"rope_scaling", {{"type", "linear"}, {"factor", 0}}, "must be positive"},
      {"rope_scaling",
       {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}},
       "expected 0 < low < high"},
      {"rope_scaling",
       {{"type", "yarn"}, {"factor", 2}, {"beta_fast", 1}},
       "rope beta_slow 1 and beta_fast 1, expected 0 < slow < fast"},
      {"rope_scaling",
       {{"type", "yarn"}, {"factor", 2}, {"attention_factor", -1}},
       "rope attention factor -1"},
      {"rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"mscale", 1}}, "not supported"}};
  for (const auto& [key, value, expected] : cases) {
    TinyModel model("llama");
    model.config[key] = value;
    EXPECT_THAT(hf_error(model), HasSubstr(expected)) << key << " = " << value;
  }
}

TEST(HfConfig, BrokenJson) {
  const TemporaryDirectory directory;
  TinyModel("llama").write_hf(directory);
  for (const char* text : {"", "{", "[1]", "{\"a\":1,\"a\":1}", "{\"hidden_size\":1e999}"}) {
    directory.write("config.json", text);
    EXPECT_THAT(error_of([&] { open_model(directory.path()); }), HasSubstr("config.json")) << text;
  }
  directory.write("config.json", std::string(2 << 20, ' '));
  EXPECT_THAT(error_of([&] { open_model(directory.path()); }), HasSubstr("expected at most"));
}

TEST(HfConfig, DefaultsAreThoseOfTransformers) {
  TinyModel model("llama");
  for (const char* key : {"num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta"}) {
    model.config.erase(key);
  }
  model.config["head_dim"] = nullptr;  // counts as missing
  for (auto& [name, weights] : model.weights) {
    const bool kv = name.find("k_proj") != name.npos || name.find("v_proj") != name.npos;
    if (kv || name.find("q_proj") != name.npos) weights = {{8, 8}, std::vector<float>(64)};
    if (name.find("o_proj") != name.npos) weights = {{8, 8}, std::vector<float>(64)};
  }
  const ModelConfig config = open_hf(model).config;
  EXPECT_EQ(config.kv_heads, 2u);
  EXPECT_EQ(config.head_dim, 4u);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_EQ(config.rope.theta, 10000);
  EXPECT_FALSE(config.tied_embeddings);
}

TEST(HfConfig, AttentionBiasOfLlama) {
  TinyModel model("llama");
  model.config["attention_bias"] = true;
  for (const char* layer : {"model.layers.0.self_attn.", "model.layers.1.self_attn."}) {
    for (const auto& [name, size] : {std::pair("q", 12), {"k", 6}, {"v", 6}, {"o", 8}}) {
      model.add(fmt::format("{}{}_proj.bias", layer, name), {static_cast<std::size_t>(size)});
    }
  }
  expect_weights(open_hf(model), model);
  // The rows of q's and k's biases are interleaved in GGUF as those of the weights are.
  expect_weights(open_gguf(model.gguf()), model);
}

TEST(HfConfig, IgnoresWhatTransformersIgnores) {
  TinyModel model("qwen3");
  const TinyModel clean = model;
  model.add("lm_head.weight", {TinyModel::kVocab, TinyModel::kHidden});
  model.add("model.layers.0.self_attn.rotary_emb.inv_freq", {3});
  expect_weights(open_hf(model), clean);
}

Rope hf_rope(const char* key, const json& value) {
  TinyModel model("llama");
  model.config[key] = value;
  return open_hf(model).config.rope;
}

TEST(HfConfig, RopeScalingInBothForms) {
  // transformers 4: "type" in old files, "rope_type" in newer ones; 5: "rope_parameters".
  for (const char* type : {"type", "rope_type"}) {
    const Rope rope = hf_rope("rope_scaling", {{type, "linear"}, {"factor", 4}});
    EXPECT_EQ(rope.scaling, Rope::Scaling::linear);
    EXPECT_EQ(rope.factor, 4);
    EXPECT_EQ(rope.theta, 5000);
  }
  Rope rope = hf_rope("rope_parameters", {{"rope_type", "default"}, {"rope_theta", 123.0}});
  EXPECT_EQ(rope.scaling, Rope::Scaling::none);
  EXPECT_EQ(rope.theta, 123);

  rope = hf_rope("rope_parameters", {{"rope_type", "llama3"},
                                     {"rope_theta", 500000.0},
                                     {"factor", 8.0},
                                     {"low_freq_factor", 2.0},
                                     {"high_freq_factor", 5.0},
                                     {"original_max_position_embeddings", 16}});
  EXPECT_EQ(rope.scaling, Rope::Scaling::llama3);
  EXPECT_EQ(rope.factor, 8);
  EXPECT_EQ(rope.low_freq_factor, 2);
  EXPECT_EQ(rope.high_freq_factor, 5);
  EXPECT_EQ(rope.original_context, 16);

  rope = hf_rope("rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}});
  EXPECT_EQ(rope.scaling, Rope::Scaling::dynamic_ntk);
  EXPECT_EQ(rope.original_context, 64);

  rope = hf_rope("rope_scaling", {{"type", "yarn"},
                                  {"original_max_position_embeddings", 16},
                                  {"beta_fast", 24.0},
                                  {"beta_slow", 2.0},
                                  {"attention_factor", 1.5}});
  EXPECT_EQ(rope.scaling, Rope::Scaling::yarn);
  EXPECT_EQ(rope.factor, 4);  // max_position_embeddings over the original
  EXPECT_EQ(rope.beta_fast, 24);
  EXPECT_EQ(rope.beta_slow, 2);
  EXPECT_EQ(rope.attention_factor, 1.5);
}

TEST(HfConfig, SlidingWindows) {
  const auto window = [](const char* family, const char* architecture, const json& fields) {
    TinyModel model(family);
    model.config["architectures"] = {architecture};
    model.config.update(fields);
    return open_hf(model).config.sliding_window;
  };
  const json on = {{"sliding_window", 32}, {"use_sliding_window", true}, {"max_window_layers", 0}};
  EXPECT_EQ(window("llama", "MistralForCausalLM", {{"sliding_window", 32}}), 32u);
  EXPECT_EQ(window("llama", "MistralForCausalLM", {{"sliding_window", nullptr}}), 0u);
  EXPECT_EQ(window("llama", "LlamaForCausalLM", {{"sliding_window", 32}}), 0u);
  EXPECT_EQ(window("qwen2", "Qwen2ForCausalLM", {{"sliding_window", 32}}), 0u);
  EXPECT_EQ(window("qwen2", "Qwen2ForCausalLM", on), 32u);
  EXPECT_EQ(window("qwen3", "Qwen3ForCausalLM", on), 32u);
  json some = on;
  some["max_window_layers"] = 2;  // from layer 2 on, and there is none
  EXPECT_EQ(window("qwen2", "Qwen2ForCausalLM", some), 0u);
  some["max_window_layers"] = 1;
  EXPECT_THAT(error_of([&] { window("qwen2", "Qwen2ForCausalLM", some); }),
              HasSubstr("in some layers only"));
}

// ---- GGUF ----

TEST(GgufModel, EveryTruncationIsAnError) {
  const std::string whole = TinyModel("qwen3").gguf();
  const TemporaryDirectory directory;
  for (std::size_t size = 0; size < whole.size() - 31; size += 7) {
    const auto path = directory.write("m.gguf", whole.substr(0, size));
    ASSERT_NE(error_of([&] { open_model(path); }), "no error") << size;
  }
}

TEST(GgufModel, QuantizedLinearLayersAreReported) {
  const auto is_quantized = [](const char* tensor) {
    GgufWriter writer;
    writer.text("general.architecture", "llama")
        .u32("llama.context_length", 64)
        .u32("llama.embedding_length", 32)
        .u32("llama.feed_forward_length", 32)
        .u32("llama.block_count", 1)
        .u32("llama.attention.head_count", 1)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
        .tensor("output_norm.weight", {32}, 0, std::string(128, '\0'))
        .tensor("blk.0.attn_norm.weight", {32}, 0, std::string(128, '\0'))
        .tensor("blk.0.ffn_norm.weight", {32}, 0, std::string(128, '\0'));
    for (const char* name :
         {"token_embd", "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output",
          "blk.0.ffn_gate", "blk.0.ffn_up", "blk.0.ffn_down"}) {
      const bool q8 = std::string(name) == tensor;
      writer.tensor(std::string(name) + ".weight", {32, 32}, q8 ? 8 : 1,
                    std::string(q8 ? 32 * 34 : 32 * 64, '\0'));
    }
    return open_gguf(writer.build()).source_quantized;
  };
  EXPECT_TRUE(is_quantized("blk.0.attn_v"));
  EXPECT_FALSE(is_quantized("token_embd"));  // no linear layer of a block
}

TEST(GgufModel, RopeFactorsBecomePartOfTheConfig) {
  const TinyModel model("llama");
  const auto with = [&](const std::vector<float>& factors) {
    GgufWriter writer = model.gguf_metadata();
    writer.tensor("rope_freqs.weight", {factors.size()}, 0, floats_as_bytes(factors));
    return model.add_gguf_tensors(writer).build();
  };
  const ModelFiles files = open_gguf(with({1, 2, 8}));
  EXPECT_THAT(files.config.rope.frequency_divisors, ElementsAre(1, 2, 8));
  expect_weights(files, model);
  EXPECT_THAT(gguf_error(with({1, 2})), HasSubstr("2 rope frequency factors, expected 3"));
  EXPECT_THAT(gguf_error(with({1, 0, 2})), HasSubstr("expected positive numbers"));
  EXPECT_THAT(gguf_error(with({1, std::nanf(""), 2})), HasSubstr("expected positive numbers"));
}

TEST(GgufModel, RopeScaling) {
  const TinyModel model("qwen2");
  const auto rope = [&](const char* type, float factor) {
    GgufWriter writer = model.gguf_metadata();
    writer.text("qwen2.rope.scaling.type", type)
        .f32("qwen2.rope.scaling.factor", factor)
        .u32("qwen2.rope.scaling.original_context_length", 16);
    return open_gguf(model.add_gguf_tensors(writer).build()).config.rope;
  };
  EXPECT_EQ(rope("none", 4).scaling, Rope::Scaling::none);
  EXPECT_EQ(rope("linear", 1).scaling, Rope::Scaling::none);
  EXPECT_EQ(rope("linear", 4).scaling, Rope::Scaling::linear);
  EXPECT_EQ(rope("linear", 4).factor, 4);
  const Rope yarn = rope("yarn", 4);
  EXPECT_EQ(yarn.scaling, Rope::Scaling::yarn);
  EXPECT_EQ(yarn.original_context, 16);
  EXPECT_DOUBLE_EQ(yarn.attention_factor, 0.1 * std::log(4.0) + 1);
  EXPECT_THAT(error_of([&] { rope("longrope", 4); }), HasSubstr("'longrope'"));
}

TEST(GgufModel, MetadataThatDoNotFit) {
  const TinyModel model("llama");
  const auto error = [&](const auto& change) {
    GgufWriter writer;
    change(writer);
    return gguf_error(writer.build());
  };
  EXPECT_THAT(error([](GgufWriter&) {}), HasSubstr("lack 'general.architecture'"));
  EXPECT_THAT(error([](GgufWriter& w) { w.text("general.architecture", "gpt2"); }),
              HasSubstr("unknown architecture 'gpt2'; expected llama, qwen2 or qwen3"));
  EXPECT_THAT(error([](GgufWriter& w) { w.text("general.architecture", "llama"); }),
              HasSubstr("lack 'llama.embedding_length'"));
  EXPECT_THAT(error([](GgufWriter& w) {
                w.text("general.architecture", "llama").u32("llama.embedding_length", 0);
              }),
              HasSubstr("'llama.embedding_length' is 0, expected a positive number"));
  EXPECT_THAT(error([](GgufWriter& w) {
                w.text("general.architecture", "llama");
                for (const char* key : {"embedding_length", "feed_forward_length", "block_count",
                                        "attention.head_count", "context_length"}) {
                  w.u32(fmt::format("llama.{}", key), 2);
                }
              }),
              HasSubstr("lack 'llama.attention.layer_norm_rms_epsilon'"));
  const auto with = [&](const auto& change) {
    GgufWriter writer = model.gguf_metadata();
    change(writer);
    return gguf_error(model.add_gguf_tensors(writer).build());
  };
  EXPECT_THAT(with([](GgufWriter& w) {
                w.text("llama.rope.scaling.type", "yarn")
                    .f32("llama.rope.scaling.yarn_beta_fast", std::nanf(""));
              }),
              HasSubstr("expected 0 < slow < fast"));
  EXPECT_THAT(with([](GgufWriter& w) { w.pair("split.count", kU16, raw<std::uint16_t>(3)); }),
              HasSubstr("one of 3 parts of a split GGUF"));
  EXPECT_EQ(with([](GgufWriter& w) { w.pair("split.count", kU16, raw<std::uint16_t>(1)); }),
            "no error");
  EXPECT_EQ(with([](GgufWriter& w) { w.u32("llama.attention.sliding_window", 32); }), "no error");
}

TEST(GgufModel, TensorUnderTwoNames) {
  const TinyModel model("llama");
  GgufWriter writer = model.gguf_metadata();
  model.add_gguf_tensors(writer).tensor("model.norm.weight", {8}, 0, std::string(32, '\0'));
  EXPECT_THAT(gguf_error(writer.build()), HasSubstr("occurs under two names"));
}

// ---- inspect ----

TEST(OpenAnyModel, KnownModelsAreAsUsual) {
  const TemporaryDirectory directory;
  std::string unknown = "left over";
  const auto path = directory.write("m.gguf", TinyModel("llama").gguf());
  EXPECT_EQ(open_any_model(path, unknown).config.layers, TinyModel::kLayers);
  EXPECT_EQ(unknown, "");
}

TEST(OpenAnyModel, UnknownArchitecturesKeepTheirNames) {
  const TemporaryDirectory directory;
  std::string unknown;
  GgufWriter writer;
  writer.text("general.architecture", "mamba").tensor("a.b", {32}, 8, std::string(34, '\0'));
  const ModelFiles gguf = open_any_model(directory.write("m.gguf", writer.build()), unknown);
  EXPECT_THAT(unknown, HasSubstr("unknown architecture 'mamba'"));
  EXPECT_EQ(gguf.config.architecture, "mamba");
  EXPECT_TRUE(gguf.table.contains("a.b"));
  EXPECT_TRUE(gguf.source_quantized);
  EXPECT_EQ(gguf.file_bytes, writer.build().size());

  directory.write("model.safetensors", TinyModel("llama").safetensors().build());
  EXPECT_TRUE(open_any_model(directory.path(), unknown).table.contains("model.norm.weight"));
  EXPECT_THAT(unknown, HasSubstr("config.json"));
  EXPECT_EQ(open_any_model(directory.path() / "model.safetensors", unknown).container,
            "safetensors");
  EXPECT_THAT(unknown, HasSubstr("one file"));
}

TEST(OpenAnyModel, BrokenFilesStayErrors) {
  const TemporaryDirectory directory;
  const std::string whole = TinyModel("llama").gguf();
  const auto path = directory.write("m.gguf", whole.substr(0, whole.size() / 2));
  std::string unknown;
  EXPECT_THAT(error_of([&] { open_any_model(path, unknown); }), HasSubstr("truncated"));
}

}  // namespace
}  // namespace squish::io
