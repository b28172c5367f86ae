#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/progress.h"
#include "squish/evaluate/host.h"
#include "squish/evaluate/presets.h"
#include "squish/evaluate/reconstruction.h"
#include "squish/report/json.h"
#include "squish/report/markdown.h"

namespace squish::apps {
namespace {

using MatrixRow = evaluate::Row<evaluate::MatrixResult>;

struct Options {
  Machine machine;
  bool markdown = false;
  std::string output = "dev/results/quant_2bit_comparison.json";
  std::string preset = "fast", methods;
  std::size_t rows = 0, cols = 0;  // 0: the preset's
  double sigma = 0.02;
  std::uint64_t seed = 42;
};

report::Json config_json(const Options& options) {
  return {{"markdown", options.markdown},
          {"output", options.output},
          {"preset", options.preset},
          {"methods", options.methods},
          {"rows", options.rows},
          {"cols", options.cols},
          {"sigma", options.sigma},
          {"seed", options.seed},
          {"threads", options.machine.threads},
          {"isa", options.machine.isa}};
}

std::vector<MatrixRow> run_matrix_stage(const Options& options,
                                        const std::vector<quant::Spec>& specs, ThreadPool& pool) {
  const Matrix weights =
      evaluate::gaussian_matrix(options.rows, options.cols, options.sigma, options.seed, pool);
  const quant::EncodeContext context{.pool = pool, .seed = options.seed, .key = "benchmark"};
  Progress progress(fmt::format("matrix {} x {}", options.rows, options.cols),
                    static_cast<double>(specs.size()));
  std::vector<MatrixRow> rows;
  for (const quant::Spec& spec : specs) {
    progress.advance(0, spec.asked());
    rows.push_back(evaluate::make_row<evaluate::MatrixResult>(spec, options.seed));
    evaluate::run_step(rows.back(), [&] {
      rows.back().result = evaluate::measure_matrix(weights, true, spec, context);
    });
    progress.advance(1);
  }
  return rows;
}

void run(Options options) {
  options.machine.choose_isa();
  const evaluate::Preset preset = evaluate::parse_preset(options.preset);
  const std::vector<quant::Spec> specs = options.methods.empty()
                                             ? evaluate::preset_specs(preset)
                                             : evaluate::parse_specs(options.methods);
  if (options.rows == 0) options.rows = evaluate::preset_size(preset);
  if (options.cols == 0) options.cols = evaluate::preset_size(preset);
  check_writable(options.output);

  ThreadPool pool(options.machine.threads);
  evaluate::Host host = evaluate::describe_host(pool);
  host.read_bandwidth_gbs = evaluate::read_bandwidth(pool);
  const std::vector<MatrixRow> rows = run_matrix_stage(options, specs, pool);

  report::Json json = {{"schema", "squish.bench/1"},     {"created", report::timestamp()},
                       {"host", report::to_json(host)},  {"squish", report::program_json()},
                       {"config", config_json(options)}, {"stage1", report::Json::array()},
                       {"stage2", report::Json::array()}};
  std::size_t failed = 0;
  for (const MatrixRow& row : rows) {
    json["stage1"].push_back(report::to_json(row));
    failed += row.ok() ? 0 : 1;
  }
  write_atomically(options.output, report::to_text(json));
  fmt::print(stderr, "results: {}\n", options.output);
  if (options.markdown) fmt::print("{}", report::matrix_table(rows));
  if (failed > 0) fail("{} of {} rows failed; their status says why", failed, rows.size());
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "bench", "Compare the methods on a matrix (stage 1) and on a model (stage 2)");
  const auto options = std::make_shared<Options>();
  command->add_flag("--markdown", options->markdown, "Print the tables on standard output");
  command->add_option("--output", options->output, "The results file (JSON)")
      ->capture_default_str();
  command->add_option("--preset", options->preset, "fast: 64 x 64; high-fidelity: 4096 x 4096")
      ->capture_default_str();
  command->add_option("--methods", options->methods,
                      "'SPEC;SPEC': compare these instead of the preset's (see squish methods)");
  command->add_option("--rows", options->rows, "Output features of the synthetic matrix")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--cols", options->cols, "Input features of the synthetic matrix")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--sigma", options->sigma, "Standard deviation of the synthetic weights")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Seed of the weights and of the methods")
      ->capture_default_str();
  options->machine.add_flags(*command);
  command->footer(
      "Examples:\n"
      "  squish bench --markdown\n"
      "  squish bench --preset high-fidelity --methods 'quip:bits=2;vptq:v=8,k=256,r=16'");
  command->callback([options] { run(*options); });
}

}  // namespace squish::apps
