#include "squish/io/checkpoint.h"

#include <gmock/gmock.h>

#include <functional>
#include <numbers>

#include "squish/base/error.h"
#include "squish/base/random.h"
#include "squish/io/json.h"
#include "squish/io/safetensors.h"
#include "tests/io/tiny_model.h"

namespace squish::io {
namespace {

using namespace testing;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kQuantised = "model.layers.0.mlp.up_proj.weight";

/// The tiny model of these tests as a checkpoint in which one matrix is quantised.
class Checkpoint : public ::testing::Test {
 protected:
  Checkpoint() {
    TinyModel("llama").write_hf(source_);
    const ModelFiles files = open_model(source_.path());
    weights_ = read_matrix(files.table.at(kQuantised), pool_);
    packed_ = quant::quantize(weights_, quant::Spec::parse("int4:sym=0,g=8"), {.pool = pool_});
    std::vector<Tensor> kept;
    for (const auto& [name, tensor] : files.table.tensors) {
      if (name != kQuantised) kept.push_back(tensor);
    }
    write_checkpoint_file(file(0), kept);
    write_checkpoint_file(file(1), {{packed_tensor(kQuantised, packed_)}});
    write_checkpoint_config(files, directory_.path());
    job_.spec = packed_.spec.full();
    job_.tensors = {{kQuantised, job_.spec}};
    job_.seed = ~std::uint64_t{0};
    write_manifest(job_, 2, directory_.path());
  }

  std::filesystem::path file(std::size_t i) const {
    return directory_.path() / checkpoint_file_name(i, 2);
  }
  std::string open_error() const {
    return error_of([&] { open_model(directory_.path()); });
  }
  /// What opening says when the manifest has been changed.
  std::string error_with(const std::function<void(json&)>& change) const {
    const std::string whole = read_text(directory_.path() / kManifestFile, 1 << 20);
    json manifest = json::parse(whole);
    change(manifest);
    directory_.write(kManifestFile, manifest.dump());
    const std::string error = open_error();
    directory_.write(kManifestFile, whole);
    return error;
  }
  /// What reading says when the entry of the quantised matrix in its file has been changed.
  std::string error_with_entry(const std::function<void(json&)>& change) const {
    const SafetensorsFile whole = read_safetensors_file(file(1));
    json entries = json::parse(whole.metadata.at("tensors"));
    change(entries[kQuantised]);
    std::vector<StoredTensor> stored;
    for (const auto& [name, tensor] : whole.table.tensors) {
      if (!name.starts_with(kPadding)) {
        stored.push_back({name, tensor.type, tensor.shape, tensor.bytes});
      }
    }
    const auto path = directory_.path() / "changed.safetensors";
    write_safetensors(path, stored, {{"format", "squish"}, {"tensors", entries.dump()}},
                      Padding::aligned);
    TensorTable table;
    return error_of([&] {
      read_checkpoint_file(path, table);
      read_matrix(table.at(kQuantised), pool_);
    });
  }

  mutable ThreadPool pool_{2};
  TemporaryDirectory source_, directory_;
  Matrix weights_;
  quant::Packed packed_;
  CheckpointJob job_;
};

TEST_F(Checkpoint, GivesBackWhatWasWritten) {
  const ModelFiles source = open_model(source_.path()), files = open_model(directory_.path());
  EXPECT_EQ(files.container, "squish");
  EXPECT_EQ(files.spec, packed_.spec.full());
  EXPECT_EQ(files.table.tensors.size(), source.table.tensors.size());
  for (const auto& [name, tensor] : source.table.tensors) {
    const Tensor& own = files.table.at(name);
    EXPECT_EQ(own.shape, tensor.shape);
    if (name == kQuantised) continue;
    EXPECT_EQ(own.type, tensor.type);
    EXPECT_TRUE(
        std::equal(own.bytes.begin(), own.bytes.end(), tensor.bytes.begin(), tensor.bytes.end()))
        << name;
  }
  const quant::Packed read = read_packed(files.table.at(kQuantised));
  EXPECT_EQ(read.spec, packed_.spec);
  ASSERT_EQ(read.sections.size(), packed_.sections.size());
  for (std::size_t i = 0; i < read.sections.size(); ++i) {
    EXPECT_EQ(read.sections[i].name, packed_.sections[i].name);
    EXPECT_EQ(read.sections[i].part, packed_.sections[i].part);
    EXPECT_EQ(read.sections[i].bytes, packed_.sections[i].bytes);
  }
  EXPECT_EQ(difference(read_job(directory_.path() / kManifestFile), job_), "");
}

TEST_F(Checkpoint, SectionsAndTensorsBeginOn64Bytes) {
  for (const std::size_t i : {0, 1}) {
    const SafetensorsFile read = read_safetensors_file(file(i));
    const std::byte* const start = read.table.files.front().bytes().data();
    for (const auto& [name, tensor] : read.table.tensors) {
      if (name.starts_with(kPadding)) continue;
      EXPECT_EQ((tensor.bytes.data() - start) % 64, 0) << name;
    }
  }
}

TEST_F(Checkpoint, WithoutItsManifestItIsRefused) {
  std::filesystem::remove(directory_.path() / kManifestFile);
  EXPECT_THAT(open_error(), HasSubstr("squish.json is missing"));
  write_job(job_, directory_.path());
  EXPECT_THAT(open_error(), HasSubstr("--resume"));
}

TEST_F(Checkpoint, ManifestsThatLieAreRefused) {
  EXPECT_EQ(error_with([](json&) {}), "no error");
  EXPECT_THAT(error_with([](json& m) { m["format_version"] = 2; }), HasSubstr("format version 2"));
  EXPECT_THAT(error_with([](json& m) { m["format"] = "other"; }), HasSubstr("not a squish"));
  EXPECT_THAT(error_with([](json& m) { m.erase("job"); }), HasSubstr("job"));
  EXPECT_THAT(error_with([](json& m) { m["job"]["seed"] = -1; }), HasSubstr("seed"));
  EXPECT_THAT(error_with([](json& m) { m["job"]["tensors"] = json::array(); }),
              HasSubstr("which the job does not say"));
  EXPECT_THAT(error_with([](json& m) { m["job"]["tensors"].push_back(m["job"]["tensors"][0]); }),
              HasSubstr("not quantised once"));
  EXPECT_THAT(error_with([](json& m) { m["job"]["tensors"][0][1] = "int8"; }),
              HasSubstr("not quantised once by int8"));
  EXPECT_THAT(error_with([](json& m) { m["files"]["../x.safetensors"] = json::object(); }),
              HasSubstr("not numbered"));
  EXPECT_THAT(error_with([](json& m) { m["files"].erase(checkpoint_file_name(1, 2)); }),
              HasSubstr("not numbered"));
  EXPECT_THAT(error_with([](json& m) {
                m["files"][checkpoint_file_name(1, 2)][kQuantised]["shape"] = {1, 1};
              }),
              HasSubstr("does not list the same"));
  EXPECT_THAT(error_with([](json& m) { m["files"] = 3; }), HasSubstr("files"));
}

TEST_F(Checkpoint, EntriesThatLieAreRefused) {
  EXPECT_EQ(error_with_entry([](json&) {}), "no error");
  EXPECT_THAT(error_with_entry([](json& e) { e["type"] = "U8"; }), HasSubstr("type 'U8'"));
  EXPECT_THAT(error_with_entry([](json& e) { e["type"] = "F32"; }), HasSubstr("is missing"));
  EXPECT_THAT(error_with_entry([](json& e) { e["shape"] = {0, 4}; }), HasSubstr("shape"));
  EXPECT_THAT(error_with_entry([](json& e) { e["shape"] = {4}; }), HasSubstr("matrix"));
  EXPECT_THAT(error_with_entry([](json& e) {
                e["shape"] = {0x7fffffff, 0x7fffffff};
              }),
              HasSubstr("overflows"));
  EXPECT_THAT(error_with_entry([](json& e) {
                e["shape"] = {0x1ffffff, 0x1ffffff};
              }),
              HasSubstr("too few"));
  EXPECT_THAT(error_with_entry([](json& e) { e["shape"] = {8, 8}; }), HasSubstr("expected"));
  EXPECT_THAT(error_with_entry([](json& e) { e["spec"] = "int9"; }), HasSubstr("int9"));
  EXPECT_THAT(error_with_entry([](json& e) { e["spec"] = "quip"; }), HasSubstr("missing"));
  EXPECT_THAT(error_with_entry([](json& e) { e["sections"].erase(0); }),
              HasSubstr("belongs to no"));
  EXPECT_THAT(error_with_entry([](json& e) { e["sections"].push_back(e["sections"][0]); }),
              HasSubstr("twice"));
  EXPECT_THAT(error_with_entry([](json& e) { e["sections"][0]["bytes"] = 1; }),
              HasSubstr("expected 1"));
  EXPECT_THAT(error_with_entry([](json& e) { e["sections"][0]["part"] = "x"; }), HasSubstr("part"));
  EXPECT_THAT(error_with_entry([](json& e) { e["sections"][0]["sha256"] = "00"; }),
              HasSubstr("malformed"));
  EXPECT_THAT(error_with_entry([](json& e) { e["sections"][0]["sha256"] = std::string(64, '0'); }),
              HasSubstr("checksum"));
}

TEST_F(Checkpoint, SumsThatAreForgottenAreNotAsked) {
  std::string damaged = read_text(file(1), 1 << 20);
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  directory_.write(checkpoint_file_name(1, 2), damaged);
  ModelFiles files = open_model(directory_.path());
  const auto read = [&] { read_matrix(files.table.at(kQuantised), pool_); };
  EXPECT_THAT(error_of(read), HasSubstr("checksum"));
  forget_sums(files.table);
  EXPECT_EQ(error_of(read), "no error");
}

/// Whatever is in the sections, decoding ends with numbers or an Error: checksums keep out
/// accidents, not malice.
TEST_F(Checkpoint, RandomSectionsDecodeOrAreRefused) {
  for (const quant::Method& method : quant::methods()) {
    quant::Packed packed =
        quant::quantize(weights_, quant::Spec::parse(method.name), {.pool = pool_});
    for (std::size_t round = 0; round < 20; ++round) {
      const CounterRng random(round, method.name);
      std::size_t i = 0;
      for (quant::Section& section : packed.sections) {
        Bytes noise(section.bytes.size());
        for (std::byte& b : noise) b = static_cast<std::byte>(random.bits(i++));
        section.bytes = noise;
      }
      error_of([&] { quant::dequantize(packed, pool_); });
    }
  }
}

/// Every byte of the header of a file, changed in turn.
TEST_F(Checkpoint, NoByteOfAHeaderMayChangeUnnoticed) {
  const std::string whole = read_text(file(1), 1 << 20);
  const std::size_t header =
      8 + static_cast<unsigned char>(whole[0]) + 256 * static_cast<unsigned char>(whole[1]);
  for (std::size_t at = 0; at < header; ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    directory_.write(checkpoint_file_name(1, 2), changed);
    if (whole[at] == ' ') continue;  // beyond the JSON; caught as malformed or harmless
    const std::string error = error_of([&] {
      const ModelFiles files = open_model(directory_.path());
      check_sums(files.table.at(kQuantised));
    });
    EXPECT_NE(error, "no error") << at << ": " << whole.substr(at, 20);
  }
}

/// A GGUF file becomes a checkpoint that stands alone: config, row order and block types.
TEST(CheckpointOfGguf, HoldsTheSameModel) {
  ThreadPool pool(2);
  for (const std::string family : {"llama", "qwen2", "qwen3"}) {
    SCOPED_TRACE(family);
    const TemporaryDirectory directory, out;
    const TinyModel tiny(family);
    GgufWriter writer = tiny.gguf_metadata();
    const bool divided = family == "llama";
    if (divided) writer.tensor("rope_freqs.weight", {3}, 0, floats_as_bytes({1, 0.1f, 7.3f}));
    if (!divided) {
      writer.text(family + ".rope.scaling.type", "yarn").f32(family + ".rope.scaling.factor", 4);
    }
    if (family == "qwen3") writer.u32(family + ".attention.sliding_window", 5);
    const ModelFiles source =
        open_model(directory.write("m.gguf", tiny.add_gguf_tensors(writer).build()));
    std::vector<Tensor> kept;
    for (const auto& [name, tensor] : source.table.tensors) kept.push_back(tensor);
    write_checkpoint_file(out.path() / checkpoint_file_name(0, 1), kept);
    write_checkpoint_config(source, out.path());
    write_manifest({}, 1, out.path());

    const ModelFiles files = open_model(out.path());
    EXPECT_EQ(files.table.tensors.size(), tiny.weights.size());
    for (const auto& [name, w] : tiny.weights) {
      const Matrix matrix = read_matrix(files.table.at(name), pool);
      EXPECT_EQ(std::vector<float>(matrix.data(), matrix.data() + matrix.size()), w.values) << name;
      EXPECT_EQ(files.table.at(name).interleaved_head_rows, 0u);
    }
    const ModelConfig &a = source.config, &b = files.config;
    EXPECT_EQ(a.family, b.family);
    EXPECT_EQ(a.vocab, b.vocab);
    EXPECT_EQ(a.hidden, b.hidden);
    EXPECT_EQ(a.intermediate, b.intermediate);
    EXPECT_EQ(a.layers, b.layers);
    EXPECT_EQ(a.heads, b.heads);
    EXPECT_EQ(a.kv_heads, b.kv_heads);
    EXPECT_EQ(a.head_dim, b.head_dim);
    EXPECT_EQ(a.max_context, b.max_context);
    EXPECT_EQ(a.norm_eps, b.norm_eps);
    EXPECT_EQ(a.tied_embeddings, b.tied_embeddings);
    EXPECT_EQ(a.sliding_window, b.sliding_window);
    EXPECT_EQ(a.rope.theta, b.rope.theta);
    EXPECT_EQ(a.rope.scaling, b.rope.scaling);
    EXPECT_EQ(a.rope.factor, b.rope.factor);
    EXPECT_EQ(a.rope.frequency_divisors, b.rope.frequency_divisors);
    if (divided) continue;  // does not scale by context
    EXPECT_EQ(a.rope.original_context, b.rope.original_context);
    EXPECT_EQ(a.rope.attention_factor, b.rope.attention_factor);
  }
}

/// Other programs do not know the divisors that Llama 3's scaling comes to in a GGUF file.
TEST(CheckpointOfGguf, PlainConfigsHaveTheScalingOfLlama3) {
  for (const bool is_llama3 : {true, false}) {
    const TemporaryDirectory directory, out;
    const TinyModel tiny("llama");
    GgufWriter writer = tiny.gguf_metadata();
    ModelFiles source =
        open_model(directory.write("m.gguf", tiny.add_gguf_tensors(writer).build()));
    // In 8192 tokens the three frequencies turn 1304, 2.6 and 0.005 times.
    source.config.rope.theta = 500.0 * 500 * 500;
    const double smooth = (8192 / 500.0 / (2 * std::numbers::pi) - 1) / 3;
    const double between = 1 / ((1 - smooth) / 8 + smooth);
    source.config.rope.frequency_divisors = {1, is_llama3 ? static_cast<float>(between) : 2, 8};
    if (!is_llama3) {
      EXPECT_THAT([&] { write_plain_config(source, DType::BF16, out.path()); },
                  ::testing::ThrowsMessage<Error>(HasSubstr("are not Llama 3's")));
      continue;
    }
    write_plain_config(source, DType::BF16, out.path());
    const auto config = read_json(out.path() / "config.json", 1 << 20);
    EXPECT_EQ(config.at("rope_scaling").at("rope_type"), "llama3");
    EXPECT_FALSE(config.contains("squish_rope_frequency_divisors"));
  }
}

TEST(CheckpointOfGguf, KeepsBlocks) {
  ThreadPool pool(2);
  const TemporaryDirectory out;
  std::vector<std::byte> blocks(6 * 34);
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(i % 60);
  Tensor tensor{"w", DType::Q8_0, {6, 32}, blocks};
  tensor.interleaved_head_rows = 6;
  const auto path = out.path() / "w.safetensors";
  write_checkpoint_file(path, {&tensor, 1});
  TensorTable table;
  read_checkpoint_file(path, table);
  EXPECT_EQ(table.at("w").type, DType::Q8_0);
  EXPECT_EQ(table.at("w").stored_bytes(), blocks.size());
  const Matrix expected = read_matrix(tensor, pool), own = read_matrix(table.at("w"), pool);
  EXPECT_EQ(std::vector<float>(own.data(), own.data() + own.size()),
            std::vector<float>(expected.data(), expected.data() + expected.size()));
}

}  // namespace
}  // namespace squish::io
