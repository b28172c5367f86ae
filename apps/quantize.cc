#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/base/memory.h"
#include "squish/base/text.h"
#include "squish/compress/job.h"
#include "squish/compress/sensitivity.h"
#include "squish/compress/sequential.h"
#include "squish/evaluate/presets.h"
#include "squish/quant/shared_codebooks.h"

namespace squish::apps {
namespace {

struct Options {
  Machine machine;
  TableFlags tables;
  std::string model, spec, calibration, text, target_size, max_memory;
  double target_bpw = 0;
  std::vector<std::string> rules;
  std::size_t tokens = CalibrationText{}.tokens;
  compress::JobOptions job;
  bool dry_run = false, sequential = false;

  bool has_target() const { return target_bpw > 0 || !target_size.empty(); }
  bool calibrated() const { return sequential || !calibration.empty() || !text.empty(); }
  /// Behind layers that are compressed already --sequential does without what this makes of --text.
  bool calibrates_here() const {
    return !text.empty() && calibration.empty() && (has_target() || !sequential);
  }
};

constexpr std::size_t kTokenBytes = 240;  // of a tokenizer, measured at 128,000 tokens
constexpr std::size_t kHeldOutWindow = 512, kHeldOutTokens = 1024;
constexpr const char* kCandidates =
    "trellis:bits=1,code=fast;trellis:bits=2,code=fast;trellis:bits=3,code=fast;"
    "trellis:bits=4,code=fast;trellis:bits=5,code=fast;trellis:bits=6,code=fast;"
    "trellis:bits=8,code=fast";

std::size_t held_out_window(const io::ModelFiles& files) {
  return std::min(kHeldOutWindow, files.config.max_context);
}

/// What specs are chosen by; absent without a target.
std::optional<compress::Target> make_target(const Options& options, const io::ModelFiles& files) {
  if (!options.has_target()) return {};
  compress::Target target;
  target.bpw = options.target_bpw;
  if (!options.target_size.empty()) target.bytes = parse_size(options.target_size, "--target-size");
  target.candidates = evaluate::parse_specs(options.spec.empty() ? kCandidates : options.spec);
  std::set<std::string> known;
  for (const quant::Spec& spec : target.candidates) {
    if (!known.insert(spec.full()).second) fail_usage("--spec: '{}' is there twice", spec.full());
    if (quant::sharing_of(spec) != quant::Sharing::none) {
      fail_usage("--spec: '{}' shares codebooks, expected candidates that stand alone",
                 spec.asked());
    }
  }
  if (options.dry_run) return target;
  evaluate::Text text = evaluate::load_calibration_text(options.text);
  text.raw = std::string(evaluate::split_lines(text.raw).held_out);
  target.windows =
      evaluate::cut_passage(text, model::Tokenizer(files.tokenizer), files.config.max_context,
                            {.protocol = evaluate::Protocol::gptq,
                             .ctx = held_out_window(files),
                             .tokens = kHeldOutTokens})
          .windows;
  return target;
}

/// What can be said before anything is compressed: each candidate for all, and the target.
void print_target(const io::ModelFiles& files, const compress::Plan& plan,
                  const compress::Target& target, std::size_t memory) {
  std::uint64_t kept = 0;
  for (const std::string& name : plan.kept) kept += files.table.at(name).stored_bytes();
  fmt::print(
      "target: {}; specs are chosen by measured loss, which compresses every tensor by every "
      "candidate; each for all tensors:\n\n{:>6}  {:>8}  {}\n",
      describe(target), "bits", "MB", "candidate");
  double all = 0;  // bits of all candidates
  for (const quant::Spec& spec : target.candidates) {
    const quant::Method& method = quant::find_method(spec.method());
    double bits = 0, weights = 0, ruled = 0;
    for (const auto& tensor : plan.compressed) {
      const double count = static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
      if (tensor.by_rule) {
        ruled += tensor.nominal_bpw * count;
        continue;
      }
      bits += method.nominal_bpw(spec, tensor.rows, tensor.cols) * count;
      weights += count;
    }
    all += bits;
    fmt::print("{:>6.3f}  {:>8.1f}  {}\n", weights > 0 ? bits / weights : 0,
               1e-6 * (static_cast<double>(kept) + (bits + ruled) / 8), spec.asked());
  }
  fmt::print(
      "\nbits: a weight, of the tensors whose spec is chosen, by the methods' formulas; MB: "
      "the whole model. While the job runs (or in --candidates) all candidates lie on disk, {:.1f} "
      "MB.\npeak memory: {:.0f} MB\n",
      1e-6 * all / 8, 1e-6 * static_cast<double>(memory));
}

void print_plan(const io::ModelFiles& files, const compress::Plan& plan,
                const compress::Estimate& estimate, std::size_t memory, int threads,
                bool sequential) {
  double bytes = 0, weights = 0, kept_bytes = 0, kept_weights = 0;
  std::size_t width = 6, spec_width = 4;
  for (const auto& tensor : plan.compressed) {
    width = std::max(width, tensor.name.size());
    spec_width = std::max(spec_width, tensor.spec.full().size());
  }
  fmt::print("{:<{}}  {:<{}}  {:>14}  {:>6}  {:>12}\n", "tensor", width, "spec", spec_width,
             "shape", "bits", "bytes");
  for (const auto& tensor : plan.compressed) {
    const double count = static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
    const double size = tensor.nominal_bpw * count / 8;
    bytes += size;
    weights += count;
    fmt::print("{:<{}}  {:<{}}  {:>14}  {:>6.3f}  {:>12.0f}\n", printable(tensor.name), width,
               tensor.spec.full(), spec_width, fmt::format("{} x {}", tensor.rows, tensor.cols),
               tensor.nominal_bpw, size);
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
  fmt::print("peak memory: {:.0f} MB; disk: {:.0f} MB; time: about {:.0f} s on {} threads{}\n",
             1e-6 * static_cast<double>(memory), 1e-6 * static_cast<double>(estimate.disk_bytes),
             estimate.seconds, threads, sequential ? ", the model's runs over the text apart" : "");
}

void check_flags(const Options& options) {
  if (!options.has_target() && !options.job.candidates.empty()) {
    fail_usage("--candidates {}: for a job with a target", options.job.candidates.string());
  }
  if (options.sequential && !options.has_target() && !options.calibration.empty()) {
    fail_usage("--calib {}: --sequential calibrates behind each layer anew, on --text",
               options.calibration);
  }
  if (!options.has_target() && options.spec.empty()) fail_usage("--spec: a method is expected");
}

std::vector<compress::TensorRule> parse_rules(const Options& options,
                                              const io::ModelConfig& config) {
  std::vector<compress::TensorRule> rules =
      compress::table_rules(config, options.tables.embed_bits, options.tables.head_bits);
  for (const std::string& rule : options.rules) rules.push_back(compress::parse_rule(rule));
  return rules;
}

std::vector<compress::Window> cut_calibration_windows(const Options& options,
                                                      const io::ModelFiles& files) {
  evaluate::Text text = evaluate::load_calibration_text(options.text);
  return cut_calibration_text(files, {.tokens = options.tokens}, text).windows;
}

/// What the job holds at its peak, so many tensors at once: while it compresses, and before that.
std::function<std::size_t(int)> memory_need(const Options& options, const io::ModelFiles& files,
                                            const compress::Plan& plan) {
  std::size_t before = 0;
  if (options.calibrates_here()) {
    before = compress::calibration_memory(files, cut_calibration_windows(options, files));
  }
  const auto is_open = [](const compress::PlannedTensor& tensor) { return !tensor.by_rule; };
  std::vector<quant::Spec> candidates;
  if (const compress::Target* target = options.job.target) {
    candidates = target->candidates;
    if (candidates.size() > 1 && std::ranges::any_of(plan.compressed, is_open)) {
      before = std::max(
          before, compress::probing_memory(files.config, held_out_window(files), kHeldOutTokens));
    }
  }
  std::size_t beside = kTokenBytes * files.config.vocab;
  if (options.sequential) {
    beside += compress::sequential_memory(files, options.job.sequential);
  }
  return [=, &plan, calibrated = options.calibrated()](int at_once) {
    const auto tensors = static_cast<std::size_t>(at_once);
    return std::max(compress::peak_memory(plan, calibrated, tensors, candidates) + beside, before);
  };
}

/// Tensors to compress at a time, at most one a thread, so that --max-memory is kept.
int fit_into(const Options& options, const std::function<std::size_t(int)>& need, int threads) {
  if (options.max_memory.empty()) return threads;
  const std::uint64_t limit = parse_size(options.max_memory, "--max-memory");
  for (int at_once = threads; at_once > 0; --at_once) {
    if (need(at_once) <= limit) return at_once;
  }
  fail("--max-memory {}: this job needs about {:.0f} MB", options.max_memory,
       1e-6 * static_cast<double>(need(1)));
}

/// What was asked for by --calib, or comes of --text; if by neither, nothing.
std::optional<io::Calibration> calibrate(const Options& options, const io::ModelFiles& files,
                                         ThreadPool& pool) {
  if (!options.calibration.empty()) return io::read_calibration(options.calibration);
  if (!options.calibrates_here()) return {};
  compress::CalibrationJob job;
  job.out = options.job.out.string() + ".calib";
  job.resume = true;
  job.team = options.job.team;
  return run_calibration(files, {.text = options.text, .tokens = options.tokens}, job, pool);
}

void run(Options options, Team& team) {
  options.machine.choose_isa();
  check_flags(options);
  // "out/": OUT.calib is beside it, not in it.
  if (!options.job.out.has_filename()) options.job.out = options.job.out.parent_path();
  std::string unknown;
  const io::ModelFiles files = io::open_tensors(options.model, unknown);
  if (!unknown.empty() && (options.has_target() || options.calibrated())) {
    fail("{}; without calibration and with fixed specs its matrices can be compressed", unknown);
  }
  const std::vector<compress::TensorRule> rules = parse_rules(options, files.config);
  const std::optional<compress::Target> target = make_target(options, files);
  if (target) options.job.target = &*target;
  const compress::Plan plan = compress::make_plan(
      files, target ? target->candidates.front() : quant::Spec::parse(options.spec), rules);
  if (plan.compressed.empty()) fail("{}: there is nothing to compress", options.model);
  return_freed_memory();
  ThreadPool pool(options.machine.threads_of(team));
  if (options.sequential) options.job.sequential = cut_calibration_windows(options, files);
  if (target) check_target(files, plan, *target, pool);
  options.job.at_once = pool.size();
  if (options.dry_run || !options.max_memory.empty()) {
    const auto need = memory_need(options, files, plan);
    options.job.at_once = fit_into(options, need, pool.size());
    if (options.dry_run && team.leads()) {
      const std::size_t memory = need(options.job.at_once);
      if (target) {
        print_target(files, plan, *target, memory);
      } else {
        print_plan(files, plan, compress::estimate(files, plan, options.calibrated(), pool), memory,
                   pool.size(), options.sequential);
      }
    }
    if (options.dry_run) return;
  }
  if (!unknown.empty() && team.leads()) {
    fmt::print(stderr, "{}; its matrices are compressed, left alone are: {}\n", printable(unknown),
               printable(fmt::format("{}", fmt::join(plan.kept, ", "))));
  }
  if (options.job.out.empty()) fail_usage("--output: a directory to write is expected");
  if (team.leads()) check_destination(options.job);
  options.job.team = &team;
  notice_interrupts(!team.leads());
  const std::optional<io::Calibration> calibration = calibrate(options, files, pool);
  if (calibration) options.job.calibration = &*calibration;
  compress::run_job(files, plan, describe_job(files, plan, options.job, pool), options.job, pool);
}

}  // namespace

void add_quantize(CLI::App& app, Team& team) {
  CLI::App* const command =
      app.add_subcommand("quantize", "Compress a model into a checkpoint directory");
  const auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "A Hugging Face directory or a .gguf file")
      ->check(not_empty)
      ->required();
  command
      ->add_option("-o,--output", options->job.out, "The checkpoint: a directory that is not there")
      ->check(not_empty);
  command
      ->add_option("--spec", options->spec,
                   "Method and parameters (squish methods); with a target 'SPEC;SPEC', the "
                   "candidates, by default the trellis at 1 to 6 and 8 bits, code=fast")
      ->check(not_empty);
  CLI::Option* const size =
      command
          ->add_option("--target-size", options->target_size,
                       "Choose specs so that all tensors of the checkpoint take at most so many "
                       "bytes (headers and paddings apart): 50M, 48MiB")
          ->check(not_empty);
  command
      ->add_option(
          "--target-bpw", options->target_bpw,
          "Choose specs so that the compressed linear layers of the blocks take at most so "
          "many stored bits a weight in all (--tensor's among them, none's not)")
      ->check(CLI::Range(0.01, 64.0))
      ->excludes(size);
  command
      ->add_option(
          "--candidates", options->job.candidates,
          "With a target: a directory that keeps what tensors became by each candidate, "
          "so that another target of the same model, calibration, specs and rules need not "
          "compress them again; outside the output")
      ->check(not_empty);
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
  command
      ->add_option(
          "--text", options->text,
          "Calibrate on the first 85 % of this text's lines, unless --calib is given; what "
          "comes of it is kept beside the output, as OUT.calib. With a target the last 15 % "
          "tell how much each tensor counts, by default of WikiText-2's valid split")
      ->check(not_empty);
  command->add_flag(
      "--sequential", options->sequential,
      "Calibrate each layer behind those compressed before it, for the outputs of the original "
      "model, on --text (by default WikiText-2's valid split): better at few bits, slower, and "
      "once for "
      "each job; with a target --calib or --text still choose the specs");
  command
      ->add_option("--tokens", options->tokens,
                   "First tokens of the text to calibrate on, where that is done here; 0: all")
      ->check(not_negative)
      ->capture_default_str();
  command
      ->add_option("--max-memory", options->max_memory,
                   "In each process: fewer tensors at a time where they need more, an error where "
                   "one does: 500M, 2GiB")
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
      "  squish quantize model.gguf -o model-q3 --spec quip:bits=3 --text some.txt\n"
      "  squish quantize model.gguf -o model-q25 --target-bpw 2.5 --calib model.calib\n"
      "  squish quantize model.gguf -o model-q4 --spec int4 --tensor '*.down_proj.weight=int8'\n"
      "  mpirun --bind-to none -n 4 squish quantize model.gguf -o model-q2 --spec quip:bits=2");
  command->callback([options, &team] { run(*options, team); });
}

}  // namespace squish::apps
