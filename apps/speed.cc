#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/commands.h"
#include "squish/base/progress.h"
#include "squish/evaluate/host.h"
#include "squish/evaluate/throughput.h"
#include "squish/kernels/panel.h"
#include "squish/report/markdown.h"

namespace squish::apps {
namespace {

struct Options {
  Machine machine;
  FormatFlag output_format{"md"};
  std::vector<std::string> models;
  std::size_t tokens = 128;
  int rounds = 3;
  KvFlag kv;
};

/// The runs of one model, over all rounds.
struct Rates {
  std::vector<double> generated, prompt;
  evaluate::Throughput last;

  evaluate::Throughput all(double read_bandwidth_gbs) const {
    evaluate::Throughput all = last;
    all.tps = evaluate::summarise(generated);
    all.prefill_tps = evaluate::summarise(prompt);
    all.bandwidth_fraction = all.bytes_per_token * all.tps.median / (1e9 * read_bandwidth_gbs);
    return all;
  }
};

std::string with_extremes(const evaluate::Timing& rate, int digits) {
  return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", rate.median, digits, rate.min, digits,
                     rate.max, digits);
}

void run(const Options& options) {
  options.machine.choose_isa();
  std::vector<io::ModelFiles> files;
  for (const std::string& model : options.models) files.push_back(io::open_model(model));
  ThreadPool pool(options.machine.threads);
  evaluate::Host host = evaluate::describe_host(pool);
  std::vector<model::Transformer> models;
  for (const io::ModelFiles& one : files) models.push_back(model::load_transformer(one, pool));
  std::vector<Rates> rates(models.size());
  Progress progress("speed", static_cast<double>(models.size()) * options.rounds);
  for (int round = 0; round < options.rounds; ++round) {
    host.read_bandwidth_gbs = std::max(host.read_bandwidth_gbs, evaluate::read_bandwidth(pool));
    for (std::size_t i = 0; i < models.size(); ++i) {
      rates[i].last = evaluate::measure_throughput(
          models[i], options.tokens, host.read_bandwidth_gbs, pool, options.kv.of_generation());
      rates[i].generated.push_back(rates[i].last.tps.median);
      rates[i].prompt.push_back(rates[i].last.prefill_tps.median);
      progress.advance(1);
    }
  }

  report::Json json = {{"schema", "squish.speed/1"},
                       {"created", report::timestamp()},
                       {"host", report::to_json(host)},
                       {"squish", report::program_json()},
                       {"panels", kernels::to_string(kernels::panel_path())},
                       {"config",
                        {{"models", options.models},
                         {"tokens", options.tokens},
                         {"rounds", options.rounds},
                         {"kv", model::to_string(options.kv.of_generation())},
                         {"threads", pool.size()},
                         {"isa", options.machine.isa}}},
                       {"rows", report::Json::array()}};
  std::vector<std::vector<std::string>> table;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const evaluate::Throughput all = rates[i].all(host.read_bandwidth_gbs);
    report::Json row = {{"model", options.models[i]}, {"spec", files[i].spec}};
    row.update(report::to_json(all));
    json["rows"].push_back(std::move(row));
    table.push_back({options.models[i], with_extremes(all.tps, 1),
                     fmt::format("{:.1f}", 1e-9 * all.bytes_per_token * all.tps.median),
                     fmt::format("{:.0f} %", 100 * all.bandwidth_fraction),
                     with_extremes(all.prefill_tps, 0)});
  }
  if (options.output_format.format == "md") {
    fmt::print("{}\n{} threads, {}; memory is read at {:.1f} GB/s.\n",
               report::markdown_table({"model", "generated tokens/s", "GB/s", "of the limit",
                                       "prompt of 512, tokens/s"},
                                      table),
               pool.size(), host.isa, host.read_bandwidth_gbs);
  }
  options.output_format.print(json);
}

}  // namespace

void add_speed(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "speed", "Tokens per second of models, taken in turn: generated, and of a prompt");
  const auto options = std::make_shared<Options>();
  command
      ->add_option(
          "MODEL", options->models,
          "Hugging Face directories, .gguf files or checkpoints; all are in memory at once")
      ->check(not_empty)
      ->required();
  command->add_option("--tokens", options->tokens, "Tokens to generate a time")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--rounds", options->rounds,
                   "How often each model has its turn; medians and extremes are of these")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  options->kv.add_flags(*command, model::to_string(options->kv.of_generation()));
  options->output_format.add_flags(*command);
  options->machine.add_flags(*command);
  command->footer("Example:\n  squish speed model.gguf model-q2 model-q4");
  command->callback([options] { run(*options); });
}

}  // namespace squish::apps
