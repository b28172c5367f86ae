#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/compress/export.h"

// `verify` and `dequantize`: what is done with a checkpoint besides running it.
namespace squish::apps {
namespace {

struct Options {
  Machine machine;
  std::string model, output, type = "bf16";
};

io::DType parse_type(const std::string& name) {
  if (name == "bf16") return io::DType::BF16;
  if (name == "f16") return io::DType::F16;
  if (name == "f32") return io::DType::F32;
  fail_usage("--type {}: expected bf16, f16 or f32", name);
}

void verify(const Options& options) {
  options.machine.choose_isa();
  ThreadPool pool(options.machine.threads);
  const compress::Verified verified = compress::verify_checkpoint(options.model, pool);
  fmt::print("{}: {} tensors, {} of them quantised, in {} files; {} bytes, all as written{}\n",
             options.model, verified.tensors, verified.quantised, verified.files, verified.bytes,
             verified.is_sealed ? "" : "; made before squish kept sums of its other files");
}

void dequantize(const Options& options) {
  options.machine.choose_isa();
  const io::DType type = parse_type(options.type);
  std::string unknown;
  const io::ModelFiles files = io::open_tensors(options.model, unknown);
  ThreadPool pool(options.machine.threads);
  compress::write_plain(files, type, options.output, pool, /*quiet=*/false);
}

}  // namespace

void add_verify(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "verify", "Check a checkpoint: every checksum, every shape, each tensor once");
  const auto options = std::make_shared<Options>();
  command->add_option("CHECKPOINT", options->model, "What squish quantize wrote")
      ->check(not_empty)
      ->required();
  options->machine.add_flags(*command);
  command->callback([options] { verify(*options); });
}

void add_dequantize(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "dequantize", "Write a checkpoint (or any model) as plain safetensors for other tools");
  const auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "A checkpoint, or any model that squish opens")
      ->check(not_empty)
      ->required();
  command
      ->add_option("-o,--output", options->output,
                   "A directory that is not there: Hugging Face's model, config and tokenizer")
      ->check(not_empty)
      ->required();
  command->add_option("--type", options->type, "Of the weights: bf16, f16 or f32")
      ->capture_default_str();
  options->machine.add_flags(*command);
  command->callback([options] { dequantize(*options); });
}

}  // namespace squish::apps
