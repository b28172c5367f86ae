#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/progress.h"
#include "squish/evaluate/host.h"
#include "squish/evaluate/model_bench.h"
#include "squish/report/json.h"
#include "squish/report/markdown.h"

namespace squish::apps {
namespace {

constexpr std::size_t kTpsTokens = 128;

struct Options {
  Machine machine;
  TextFlags text;
  std::string model, reference, output;
};

model::Transformer load(const io::ModelFiles& files, ThreadPool& pool) {
  return model::load_transformer(files, model::load_shared(files, pool), pool);
}

/// Fills in quality and, with a reference, the noise floor.
void measure_quality(const model::Transformer& own, const io::ModelFiles* reference_files,
                     const evaluate::Passage& passage, evaluate::ModelBench& bench,
                     ThreadPool& pool) {
  std::optional<model::Transformer> reference;
  if (reference_files != nullptr) reference = load(*reference_files, pool);
  Progress progress("perplexity " + passage.label,
                    static_cast<double>(passage.windows.size() * (reference ? 2 : 1)));
  const auto done = [&] { progress.advance(1); };
  auto& quality = bench.rows[0].result->quality;
  if (!reference) {
    quality = evaluate::summarise(evaluate::score(own, {}, passage, pool, done)[0], nullptr);
    return;
  }
  const model::Transformer* const candidate = &own;
  const auto scores = evaluate::score(*reference, {&candidate, 1}, passage, pool, done);
  quality = evaluate::summarise(scores[1], &scores[0]);
  bench.noise = evaluate::noise_floor(*reference, passage, pool);
}

void run(const Options& options) {
  options.machine.choose_isa();
  const evaluate::PassageOptions passage_options = options.text.options();
  const io::ModelFiles files = io::open_model(options.model);
  std::optional<io::ModelFiles> reference;
  std::size_t max_context = files.config.max_context;
  if (!options.reference.empty()) {
    reference = io::open_model(options.reference);
    max_context = std::min(max_context, reference->config.max_context);
    if (reference->tokenizer.tokens != files.tokenizer.tokens) {
      fail("{} and {} have different vocabularies and cannot be compared", files.path.string(),
           reference->path.string());
    }
  }
  const evaluate::Text text = evaluate::load_text(options.text.data);
  const evaluate::Passage passage =
      evaluate::cut_passage(text, model::Tokenizer(files.tokenizer), max_context, passage_options);
  if (!options.output.empty()) {
    check_output(options.output, {options.model, options.reference, text.path.string()});
  }

  ThreadPool pool(options.machine.threads);
  evaluate::Host host = evaluate::describe_host(pool);
  host.read_bandwidth_gbs = evaluate::read_bandwidth(pool);
  evaluate::ModelBench bench;
  bench.rows.push_back(evaluate::uncompressed_row(files, 0));
  if (!files.spec.empty()) {                                     // a checkpoint
    const bool mixed = files.spec.find(';') != files.spec.npos;  // chosen tensor by tensor
    bench.rows[0].method = mixed ? "mixed" : quant::Spec::parse(files.spec).method();
    bench.rows[0].spec = mixed ? "mixed" : files.spec;
    bench.rows[0].spec_full = files.spec;
  }
  const model::Transformer own = load(files, pool);
  measure_quality(own, reference ? &*reference : nullptr, passage, bench, pool);
  Progress speed("generate", 1);
  bench.rows[0].result->throughput =
      evaluate::measure_throughput(own, kTpsTokens, host.read_bandwidth_gbs, pool);
  speed.advance(1);

  // What a checkpoint was made from is the reference, if that is here.
  const bool source_quantized =
      reference ? reference->source_quantized : files.spec.empty() && files.source_quantized;
  fmt::print("{}", report::model_table(bench, &passage, source_quantized));
  if (options.output.empty()) return;
  report::Json json = {{"schema", "squish.eval/1"},
                       {"created", report::timestamp()},
                       {"host", report::to_json(host)},
                       {"squish", report::program_json()},
                       {"config",
                        {{"model", options.model},
                         {"reference", options.reference},
                         {"ppl_data", options.text.data},
                         {"ppl_protocol", options.text.protocol},
                         {"ctx", passage.ctx()},
                         {"ppl_tokens", options.text.tokens},
                         {"output", options.output},
                         {"threads", pool.size()},
                         {"isa", options.machine.isa}}},
                       {"model", report::to_json(files)}};
  if (reference) json["reference"] = report::to_json(*reference);
  if (bench.noise) json["noise_floor"] = report::to_json(*bench.noise);
  json["rows"] = report::Json::array({report::to_json(bench.rows[0], &passage)});
  write_atomically(options.output, report::to_text(json));
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "eval", "Perplexity and speed of one model; with a reference, how far it is from that");
  const auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "A Hugging Face directory or a .gguf file")
      ->check(not_empty)
      ->required();
  command
      ->add_option("--reference", options->reference,
                   "The model to compare with: adds ΔNLL, KL divergence and top-1 agreement")
      ->check(not_empty);
  options->text.add_flags(*command);
  command->add_option("--output", options->output, "Also write the results as JSON")
      ->check(not_empty);
  options->machine.add_flags(*command);
  command->footer(
      "Example, the figure that llama.cpp quotes for 64 windows:\n"
      "  squish eval model.gguf --ppl-protocol llama.cpp --ppl-tokens 32768");
  command->callback([options] { run(*options); });
}

}  // namespace squish::apps
