#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/evaluate/throughput.h"
#include "squish/model/chat_template.h"
#include "squish/model/sampler.h"
#include "squish/model/transformer.h"
#include "squish/model/unicode.h"

namespace squish::apps {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  Machine machine;
  std::string model, prompt;
  std::size_t tokens = 256, ctx = 0;
  model::SamplerOptions sampler;
  KvFlag kv;
  bool chat = false, skip_sums = false;
  std::optional<io::Placement> placement;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Prints the text of successive tokens, never part of a character.
class Stream {
 public:
  explicit Stream(const model::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void push(model::TokenId token) {
    held_ += tokenizer_.piece(token);
    print(model::printable_length(held_));
  }
  void finish() {
    print(held_.size());
    fmt::print("\n");
  }

 private:
  void print(std::size_t bytes) {
    fmt::print("{}", std::string_view(held_).substr(0, bytes));
    std::fflush(stdout);
    held_.erase(0, bytes);
  }

  const model::Tokenizer& tokenizer_;
  std::string held_;  // not printed yet
};

std::vector<model::TokenId> prompt_tokens(const Options& options,
                                          const model::Tokenizer& tokenizer) {
  if (!options.chat) return tokenizer.encode(options.prompt);
  // The template writes BOS itself.
  return tokenizer.encode(model::apply_chat_template(tokenizer.data(), {{"user", options.prompt}}),
                          /*add_special=*/false);
}

void run(const Options& options) {
  options.machine.choose_isa();
  io::ModelFiles files = io::open_model(options.model);
  if (options.skip_sums) io::forget_sums(files.table);
  const model::Tokenizer tokenizer(files.tokenizer);
  const std::vector<model::TokenId> prompt = prompt_tokens(options, tokenizer);
  const std::size_t limit = options.ctx > 0 ? options.ctx : files.config.max_context;
  if (prompt.empty()) {
    fail_usage("{}", options.prompt.empty()
                         ? "the prompt is empty and this model's tokenizer adds no token"
                         : "the model's vocabulary has no token for any character of the prompt");
  }
  if (limit > files.config.max_context || prompt.size() >= limit) {
    fail_usage("a prompt of {} tokens leaves none in a context of {}; the model takes at most {}",
               prompt.size(), limit, files.config.max_context);
  }
  const std::size_t tokens = std::min(options.tokens, limit - prompt.size());

  ThreadPool pool(options.machine.threads);
  const model::Transformer model =
      model::load_transformer(files, pool, model::kFewTokens, options.placement);
  model::KvCache cache(files.config, prompt.size() + tokens, options.kv.of_generation());
  model::Sampler sampler(options.sampler);
  Matrix logits(1, files.config.vocab);
  Stream stream(tokenizer);

  const Clock::time_point prompt_start = Clock::now();
  const Matrix states = model::forward(model, prompt, cache, pool);
  model::logits(model, states.view().row_range(prompt.size() - 1, prompt.size()), logits, pool);
  const double prompt_seconds = seconds_since(prompt_start);

  model::Generator generator(model, cache, pool);
  const Clock::time_point start = Clock::now();
  const auto& stop = files.tokenizer.stop;
  std::size_t generated = 0, steps = 0;
  double bytes = 0;
  while (generated < tokens) {
    const model::TokenId next = sampler.pick(logits.row(0));
    if (std::find(stop.begin(), stop.end(), next) != stop.end()) break;
    stream.push(next);
    if (++generated == tokens) break;
    bytes += static_cast<double>(evaluate::weight_bytes(model) + cache.bytes());
    model::logits(model, generator.next(next), logits, pool);
    ++steps;
  }
  const double seconds = seconds_since(start);
  stream.finish();
  fmt::print(stderr, "prompt: {} tokens, {:.1f} tokens/s\n", prompt.size(),
             static_cast<double>(prompt.size()) / prompt_seconds);
  fmt::print(stderr, "generated: {} tokens", generated);
  if (steps > 0) {
    fmt::print(stderr, ", {:.1f} tokens/s, {:.1f} GB/s", static_cast<double>(steps) / seconds,
               1e-9 * bytes / seconds);
  }
  fmt::print(stderr, "\n");
}

}  // namespace

void add_run(CLI::App& app) {
  CLI::App* const command = app.add_subcommand("run", "Generate text, streamed");
  const auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "A Hugging Face directory or a .gguf file")
      ->check(not_empty)
      ->required();
  command->add_option("-p,--prompt", options->prompt, "The prompt")->required();
  command->add_option("-n,--tokens", options->tokens, "Tokens to generate at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_flag("--chat", options->chat,
                    "Put the prompt into the model's own chat template (ChatML or Llama 3's)");
  command->add_option("--temperature", options->sampler.temperature, "0: always the likeliest")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-k", options->sampler.top_k, "Of the k likeliest only; 0: all")
      ->check(not_negative)
      ->capture_default_str();
  command
      ->add_option("--top-p", options->sampler.top_p,
                   "Of the likeliest that make up this probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", options->sampler.seed, "Seed of the sampling")
      ->check(not_negative)
      ->capture_default_str();
  options->kv.add_flags(*command, model::to_string(options->kv.of_generation()));
  command->add_option("--ctx", options->ctx, "Tokens of context; 0: as many as the model takes")
      ->check(not_negative)
      ->capture_default_str();
  command
      ->add_option("--weights", options->placement,
                   "copied: into memory, huge pages where there are; mapped: left in the file, for "
                   "the system to read and forget as it sees fit, but for what kernels put in "
                   "another order (INT; AQLM and VPTQ where tables serve); default: copied where "
                   "they take at most half of the free memory")
      ->transform(CLI::CheckedTransformer(std::map<std::string, io::Placement>{
          {"copied", io::Placement::copied}, {"mapped", io::Placement::mapped}}));
  command->add_flag("--skip-checksums", options->skip_sums,
                    "Do not compare a checkpoint's tensors with their checksums when they are "
                    "loaded");
  options->machine.add_flags(*command);
  command->footer(
      "Examples:\n"
      "  squish run model.gguf -p 'The capital of France is'\n"
      "  squish run model.gguf --chat -p 'Why is the sky blue?' --temperature 0.7 --top-p 0.9");
  command->callback([options] { run(*options); });
}

}  // namespace squish::apps
