#include "squish/io/model_files.h"

#include "squish/base/error.h"
#include "squish/io/architecture.h"
#include "squish/io/checkpoint.h"
#include "squish/io/gguf.h"
#include "squish/io/safetensors.h"
#include "squish/io/tokenizer_files.h"

namespace squish::io {
namespace {

namespace fs = std::filesystem;

/// False on any failure: opening the path as a file then says what is wrong.
bool opens_as_directory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::uint64_t total_bytes(const TensorTable& table) {
  std::uint64_t total = 0;
  for (const MappedFile& file : table.files) total += file.bytes().size();
  return total;
}

ModelFiles open_gguf(const fs::path& path) {
  const GgufFile file = read_gguf(path);
  const Architecture architecture = read_gguf_architecture(file);
  ModelFiles model;
  model.container = "gguf";
  model.config = architecture.config;
  model.table = hf_named_tensors(file, model.config);
  check_architecture(architecture, model.table, path);
  model.tokenizer = read_tokenizer(file);
  for (const std::string& name : linear_names(model.config)) {
    model.source_quantized |= is_quantized(model.table.at(name).type);
  }
  return model;
}

ModelFiles open_hf_directory(const fs::path& path) {
  const Architecture architecture = read_hf_config(path / "config.json");
  ModelFiles model;
  model.container = "safetensors";
  model.config = architecture.config;
  model.table = read_safetensors_directory(path);
  // Tensors that transformers ignores too: the head of a tied model, and the rotary frequencies
  // that early Llama checkpoints carry.
  std::erase_if(model.table.tensors, [&](const auto& item) {
    return (model.config.tied_embeddings && item.first == "lm_head.weight") ||
           item.first.ends_with(".rotary_emb.inv_freq");
  });
  check_architecture(architecture, model.table, path);
  model.tokenizer = read_tokenizer(path);
  return model;
}

/// The container alone, tensors under the file's own names.
ModelFiles open_container(const fs::path& path) {
  ModelFiles model;
  if (fs::exists(path / kManifestFile)) return open_checkpoint_tensors(path);
  if (opens_as_directory(path)) {
    model.container = "safetensors";
    model.table = read_safetensors_directory(path);
  } else if (path.extension() == ".safetensors") {
    model.container = "safetensors";
    read_safetensors(path, model.table);
  } else {
    GgufFile file = read_gguf(path);
    model.container = "gguf";
    model.config.architecture = file.text_or("general.architecture", "");
    model.table = std::move(file.table);
  }
  for (const auto& [name, tensor] : model.table.tensors) {
    model.source_quantized |= is_quantized(tensor.type);
  }
  return model;
}

}  // namespace

std::string_view to_string(Family family) {
  switch (family) {
    case Family::llama:
      return "llama";
    case Family::qwen2:
      return "qwen2";
    case Family::qwen3:
      return "qwen3";
  }
  return "";
}

ModelFiles open_model(const fs::path& path) {
  std::error_code ignored;
  const bool whole = fs::exists(path / kManifestFile, ignored);
  if (!whole && fs::exists(path / kJobFile, ignored)) {
    fail(
        "{}: not a whole checkpoint: the squish quantize that writes it is unfinished; --resume "
        "ends it",
        path.string());
  }
  ModelFiles model = whole                      ? open_checkpoint(path)
                     : opens_as_directory(path) ? open_hf_directory(path)
                                                : open_gguf(path);
  model.path = path;
  model.file_bytes = total_bytes(model.table);
  return model;
}

ModelFiles open_any_model(const fs::path& path, std::string& what_is_unknown) {
  what_is_unknown.clear();
  if (path.extension() == ".safetensors" && !opens_as_directory(path)) {
    what_is_unknown =
        fmt::format("{}: one file; a model is the directory around it", path.string());
  } else {
    try {
      return open_model(path);
    } catch (const Error& error) {
      what_is_unknown = error.what();
    }
  }
  ModelFiles model = open_container(path);  // fails by itself if that is broken too
  model.path = path;
  model.file_bytes = total_bytes(model.table);
  return model;
}

ModelFiles open_tensors(const fs::path& path, std::string& what_is_unknown) {
  what_is_unknown.clear();
  try {
    return open_model(path);
  } catch (const UnknownArchitecture& error) {
    what_is_unknown = error.what();
  }
  ModelFiles model = open_container(path);
  model.path = path;
  model.file_bytes = total_bytes(model.table);
  return model;
}

std::vector<std::string> linear_names(const ModelConfig& config) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < config.layers; ++i) {
    for (const char* layer :
         {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
          "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      names.push_back(fmt::format("model.layers.{}.{}.weight", i, layer));
    }
  }
  return names;
}

}  // namespace squish::io
