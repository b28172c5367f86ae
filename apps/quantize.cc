#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/base/text.h"
#include "squish/compress/job.h"

namespace squish::apps {
namespace {

struct Options {
  Machine machine;
  TableFlags tables;
  std::string model, spec, calibration;
  std::vector<std::string> rules;
  compress::JobOptions job;
  bool dry_run = false;
};

void print_plan(const io::ModelFiles& files, const compress::Plan& plan) {
  double bytes = 0, weights = 0, kept_bytes = 0, kept_weights = 0;
  std::size_t width = 6, spec_width = 4;
  for (const auto& tensor : plan.compressed) {
    width = std::max(width, tensor.name.size());
    spec_width = std::max(spec_width, tensor.spec.full().size());
  }
  fmt::print("{:<{}}  {:<{}}  {:>6}  {:>12}\n", "tensor", width, "spec", spec_width, "bits",
             "bytes");
  for (const auto& tensor : plan.compressed) {
    const double count = static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
    const double size = tensor.nominal_bpw * count / 8;
    bytes += size;
    weights += count;
    fmt::print("{:<{}}  {:<{}}  {:>6.3f}  {:>12.0f}\n", printable(tensor.name), width,
               tensor.spec.full(), spec_width, tensor.nominal_bpw, size);
  }
  for (const std::string& name : plan.kept) {
    kept_bytes += static_cast<double>(files.table.at(name).stored_bytes());
    kept_weights += static_cast<double>(files.table.at(name).elements());
  }
  fmt::print("\n{} quantised tensors: {:.3f} bits a weight by the methods' formulas, {:.1f} MB\n",
             plan.compressed.size(), weights > 0 ? 8 * bytes / weights : 0, 1e-6 * bytes);
  fmt::print("{} tensors stay as they are: {:.3f} bits a weight, {:.1f} MB\n", plan.kept.size(),
             8 * kept_bytes / kept_weights, 1e-6 * kept_bytes);
  fmt::print("the model: {:.3f} bits a weight, {:.1f} MB\n",
             8 * (bytes + kept_bytes) / (weights + kept_weights), 1e-6 * (bytes + kept_bytes));
}

void run(Options options) {
  options.machine.choose_isa();
  const quant::Spec spec = quant::Spec::parse(options.spec);
  std::vector<compress::TensorRule> asked;
  for (const std::string& rule : options.rules) asked.push_back(compress::parse_rule(rule));
  const io::ModelFiles files = io::open_model(options.model);
  std::vector<compress::TensorRule> rules =
      compress::table_rules(files.config, options.tables.embed_bits, options.tables.head_bits);
  rules.insert(rules.end(), asked.begin(), asked.end());
  const compress::Plan plan = compress::make_plan(files, spec, rules);
  if (options.dry_run) {
    print_plan(files, plan);
    return;
  }
  if (options.job.out.empty()) fail_usage("--output: a directory to write is expected");
  std::optional<io::Calibration> calibration;
  if (!options.calibration.empty()) {
    calibration = io::read_calibration(options.calibration);
    options.job.calibration = &*calibration;
  }
  ThreadPool pool(options.machine.threads);
  compress::run_job(files, plan, options.job, pool);
}

}  // namespace

void add_quantize(CLI::App& app) {
  CLI::App* const command =
      app.add_subcommand("quantize", "Compress a model into a checkpoint directory");
  const auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "A Hugging Face directory or a .gguf file")
      ->check(not_empty)
      ->required();
  command
      ->add_option("-o,--output", options->job.out, "The checkpoint: a directory that is not there")
      ->check(not_empty);
  command->add_option("--spec", options->spec, "Method and parameters (squish methods)")
      ->check(not_empty)
      ->required();
  command
      ->add_option("--tensor", options->rules,
                   "GLOB=SPEC: another spec, or none, for the matrices whose names match; the last "
                   "that matches decides")
      ->allow_extra_args(false);
  options->tables.add_flags(*command);
  command
      ->add_option("--calib", options->calibration,
                   "What squish calibrate wrote of this model: errors count by its inputs")
      ->check(not_empty);
  command->add_option("--seed", options->job.seed, "Seed of all random numbers")
      ->check(not_negative)
      ->capture_default_str();
  command->add_flag("--dry-run", options->dry_run, "Print what would be done, do nothing");
  command->add_flag("--resume", options->job.resume,
                    "Go on where a job with the same model, specs, seed and program was stopped");
  options->machine.add_flags(*command);
  command->footer(
      "Examples:\n"
      "  squish calibrate model.gguf -o model.calib\n"
      "  squish quantize model.gguf -o model-q2 --spec quip:bits=2 --calib model.calib\n"
      "  squish quantize model.gguf -o model-q4 --spec int4 --tensor '*.down_proj.weight=int8'");
  command->callback([options] { run(*options); });
}

}  // namespace squish::apps
