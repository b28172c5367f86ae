#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "squish/base/text.h"
#include "squish/io/model_files.h"
#include "squish/report/json.h"

namespace squish::apps {
namespace {

using report::Json;

double stored_bits(const io::Tensor& tensor) {
  return 8 * static_cast<double>(tensor.stored_bytes());
}

/// Stored bits per weight: of Q4_1 5, with its scale and minimum.
double bits_per_weight(const io::Tensor& tensor) {
  const std::size_t elements = tensor.elements();
  return elements == 0 ? 0 : stored_bits(tensor) / static_cast<double>(elements);
}

struct Total {
  std::size_t tensors = 0, parameters = 0;
  double bits = 0;

  void add(const io::Tensor& tensor) {
    tensors += 1;
    parameters += tensor.elements();
    bits += stored_bits(tensor);
  }
  double bits_per_parameter() const {
    return parameters == 0 ? 0 : bits / static_cast<double>(parameters);
  }
};

struct Summary {
  io::ModelFiles files;
  std::string unknown;                     // why the model cannot be run; empty if it can
  std::vector<const io::Tensor*> tensors;  // layer 10 after layer 9
  Total total;
  std::map<io::DType, Total> by_type;
};

Summary summarize(const std::string& path) {
  Summary summary;
  summary.files = io::open_any_model(path, summary.unknown);
  for (const auto& [name, tensor] : summary.files.table.tensors) {
    summary.tensors.push_back(&tensor);
    summary.total.add(tensor);
    summary.by_type[tensor.type].add(tensor);
  }
  summary.total.bits += 8 * static_cast<double>(summary.files.table.shared_bytes());
  std::sort(summary.tensors.begin(), summary.tensors.end(), [](const auto* a, const auto* b) {
    return ::strverscmp(a->name.c_str(), b->name.c_str()) < 0;
  });
  return summary;
}

std::string_view scaling_name(io::Rope::Scaling scaling) {
  switch (scaling) {
    case io::Rope::Scaling::none:
      return "none";
    case io::Rope::Scaling::linear:
      return "linear";
    case io::Rope::Scaling::dynamic_ntk:
      return "dynamic";
    case io::Rope::Scaling::llama3:
      return "llama3";
    case io::Rope::Scaling::yarn:
      return "yarn";
  }
  return "";
}

std::string_view rope_scaling(const io::Rope& rope) {
  return rope.frequency_divisors.empty() ? scaling_name(rope.scaling) : "explicit frequencies";
}

std::string_view tokenizer_name(io::TokenizerData::Kind kind) {
  switch (kind) {
    case io::TokenizerData::Kind::none:
      return "none";
    case io::TokenizerData::Kind::byte_level_bpe:
      return "byte-level BPE";
    case io::TokenizerData::Kind::sentencepiece_bpe:
      return "SentencePiece BPE";
  }
  return "";
}

void print_text(const Summary& summary) {
  const io::ModelConfig& c = summary.files.config;
  fmt::print("{}\n", summary.files.path.string());
  fmt::print("architecture  {} ({})\n",
             c.architecture.empty() ? "unknown" : printable(c.architecture),
             summary.files.container);
  if (summary.unknown.empty()) {
    fmt::print("layers        {} of hidden size {}, intermediate size {}\n", c.layers, c.hidden,
               c.intermediate);
    fmt::print("attention     {} heads of {}, {} for keys and values{}\n", c.heads, c.head_dim,
               c.kv_heads,
               c.sliding_window > 0 ? fmt::format(", window {}", c.sliding_window) : "");
    fmt::print("rope          base {}, scaling {}\n", c.rope.theta, rope_scaling(c.rope));
    fmt::print("context       {}\n", c.max_context);
    fmt::print("vocabulary    {}, embeddings {}\n", c.vocab, c.tied_embeddings ? "tied" : "untied");
    fmt::print("tokenizer     {}\n", tokenizer_name(summary.files.tokenizer.kind));
  } else {
    fmt::print("cannot be run {}\n", printable(summary.unknown));
  }

  std::size_t width = 6;
  for (const io::Tensor* tensor : summary.tensors) width = std::max(width, tensor->name.size());
  width = std::min<std::size_t>(width, 80);
  fmt::print("\n{:<{}}  type  bits    shape\n", "tensor", width);
  for (const io::Tensor* tensor : summary.tensors) {
    fmt::print("{:<{}}  {:<4}  {:<6.4g}  {}\n", printable(tensor->name), width,
               io::to_string(tensor->type), bits_per_weight(*tensor),
               fmt::join(tensor->shape, " x "));
  }
  fmt::print("\n");
  for (const auto& [type, total] : summary.by_type) {
    fmt::print("{:<5} {:>6.4g} bits  {:>5} tensors  {:>13} parameters\n", io::to_string(type),
               total.bits_per_parameter(), total.tensors, total.parameters);
  }
  if (!summary.files.table.shared.empty()) {
    fmt::print("codebooks that tensors share: {}, {} bytes\n", summary.files.table.shared.size(),
               summary.files.table.shared_bytes());
  }
  fmt::print("total {:>6.4g} bits  {:>5} tensors  {:>13} parameters  {} bytes on disk\n",
             summary.total.bits_per_parameter(), summary.total.tensors, summary.total.parameters,
             summary.files.file_bytes);
}

Json config_json(const io::ModelConfig& c) {
  return {{"family", io::to_string(c.family)},
          {"vocab", c.vocab},
          {"hidden", c.hidden},
          {"intermediate", c.intermediate},
          {"layers", c.layers},
          {"heads", c.heads},
          {"kv_heads", c.kv_heads},
          {"head_dim", c.head_dim},
          {"max_context", c.max_context},
          {"norm_eps", c.norm_eps},
          {"rope_theta", c.rope.theta},
          {"rope_scaling", rope_scaling(c.rope)},
          {"sliding_window", c.sliding_window},
          {"tied_embeddings", c.tied_embeddings}};
}

void print_json(const Summary& summary) {
  const io::ModelFiles& files = summary.files;
  Json json = {{"schema", "squish.inspect/1"},
               {"path", files.path.string()},
               {"container", files.container},
               {"architecture", files.config.architecture}};
  if (summary.unknown.empty()) {
    json["config"] = config_json(files.config);
    json["tokenizer"] = tokenizer_name(files.tokenizer.kind);
  } else {
    json["cannot_be_run"] = summary.unknown;
  }
  json["source_quantized"] = files.source_quantized;
  json["tensors"] = Json::array();
  for (const io::Tensor* tensor : summary.tensors) {
    json["tensors"].push_back({{"name", tensor->name},
                               {"type", io::to_string(tensor->type)},
                               {"bits", bits_per_weight(*tensor)},
                               {"shape", tensor->shape}});
    if (tensor->packed != nullptr) json["tensors"].back()["spec"] = tensor->packed->spec;
  }
  for (const auto& [name, section] : files.table.shared) {
    json["shared"][name] = {{"section", section->name}, {"bytes", section->bytes.size()}};
  }
  json["parameters"] = summary.total.parameters;
  json["bits_per_parameter"] = summary.total.bits_per_parameter();
  json["file_bytes"] = files.file_bytes;
  fmt::print("{}", report::to_text(json));
}

}  // namespace

void add_inspect(CLI::App& app) {
  struct Options {
    std::string path;
    bool json = false;
  };
  CLI::App* const command = app.add_subcommand(
      "inspect", "Show a model's architecture and its tensors: types, shapes, bits");
  const auto options = std::make_shared<Options>();
  command
      ->add_option("PATH", options->path,
                   "A .gguf or .safetensors file or a Hugging Face directory")
      ->check(not_empty)
      ->required();
  command->add_flag("--json", options->json, "As JSON");
  command->footer(
      "Bits are those stored per weight, scales included. A model of an unknown architecture is\n"
      "shown under its file's own tensor names, with the reason why it cannot be run.");
  command->callback([options] {
    const Summary summary = summarize(options->path);
    options->json ? print_json(summary) : print_text(summary);
  });
}

}  // namespace squish::apps
