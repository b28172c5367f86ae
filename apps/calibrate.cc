#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/base/memory.h"
#include "squish/base/progress.h"
#include "squish/base/text.h"
#include "squish/compress/calibration_job.h"

namespace squish::apps {
namespace {

struct Options {
  Machine machine;
  CalibrationText source;
  std::string model, output;
  std::string max_memory;
  std::vector<std::string> merge;
  ResumeFlags saving;
};

void print_summary(const std::string& output, const io::Calibration& calibration) {
  for (const auto& [name, sums] : calibration.inputs) {
    if (sums.dropped == 0) continue;
    fmt::print(stderr, "{}: {} of {} activations dropped, not finite or beyond 1e15\n",
               printable(name), sums.dropped, sums.dropped + sums.tokens);
  }
  fmt::print("{}: {} inputs; model {}\n", output, calibration.inputs.size(),
             calibration.source.model_sha256);
  for (const auto& run : calibration.source.runs) {
    fmt::print("{} tokens of {} ({}@{}, text {})\n", run.tokens, printable(run.text),
               printable(run.protocol), run.windows, printable(run.text_sha256));
  }
}

void merge(const Options& options, ThreadPool& pool) {
  for (const std::string& file : options.merge) check_output(options.output, {file});
  std::vector<io::Calibration> parts;
  for (const std::string& file : options.merge) parts.push_back(io::read_calibration(file));
  const io::Calibration merged = io::merge_calibrations(std::move(parts), pool);
  io::write_calibration(options.output, merged, pool);
  print_summary(options.output, merged);
}

void calibrate(const Options& options, Team& team, ThreadPool& pool) {
  const io::ModelFiles files = io::open_model(options.model);
  notice_interrupts(!team.leads());
  compress::CalibrationJob job;
  job.out = options.output;
  job.resume = options.saving.resume;
  job.save_every = options.saving.save_every;
  job.team = &team;
  if (!options.max_memory.empty()) {
    job.max_memory = parse_size(options.max_memory, "--max-memory");
  }
  const io::Calibration calibration = run_calibration(files, options.source, job, pool);
  if (team.leads()) print_summary(options.output, calibration);
}

void run(const Options& options, Team& team) {
  options.machine.choose_isa();
  if (options.model.empty() == options.merge.empty()) {
    fail_usage("expected either a MODEL or --merge CALIB CALIB");
  }
  for (const auto& [flag, value] :
       {std::pair{"--ctx", options.source.ctx}, {"--tokens", options.source.tokens}}) {
    if (value == 1) fail_usage("{} 1: expected 0 or at least 2 tokens", flag);
  }
  return_freed_memory();
  ThreadPool pool(options.machine.threads_of(team));
  if (options.merge.empty()) {
    calibrate(options, team, pool);
  } else if (team.leads()) {
    merge(options, pool);
  }
}

}  // namespace

evaluate::Passage cut_calibration_text(const io::ModelFiles& files, const CalibrationText& source,
                                       evaluate::Text& text) {
  const evaluate::Split split = evaluate::split_lines(text.raw);
  text.raw = std::string(source.held_out ? split.held_out : split.calibration);
  return evaluate::cut_passage(
      text, model::Tokenizer(files.tokenizer), files.config.max_context,
      {.protocol = evaluate::Protocol::gptq, .ctx = source.ctx, .tokens = source.tokens});
}

io::Calibration run_calibration(const io::ModelFiles& files, const CalibrationText& source,
                                compress::CalibrationJob job, ThreadPool& pool) {
  evaluate::Text text = evaluate::load_calibration_text(source.text);
  const bool leads = job.team == nullptr || job.team->leads();
  if (leads) check_output(job.out, {files.path.string(), text.path.string()});
  const evaluate::Passage passage = cut_calibration_text(files, source, text);

  job.windows = passage.windows;
  job.text = fmt::format("{}, the {} % of its lines",
                         text.name == "other" ? text.path.string() : text.name,
                         source.held_out ? "last 15" : "first 85");
  job.text_sha256 = passage.sha256;
  job.protocol = fmt::format("gptq-{}", passage.ctx());
  job.text_lines = evaluate::line_hashes(text.raw);
  const std::size_t steps = passage.windows.size() * files.config.layers;
  Progress progress("calibrate " + passage.label, static_cast<double>(steps), !leads);
  return compress::run_calibration(files, job, pool, [&](std::size_t windows) {
    progress.advance(static_cast<double>(windows));
  });
}

void add_calibrate(CLI::App& app, Team& team) {
  CLI::App* const command = app.add_subcommand(
      "calibrate", "Run a model over a text and keep what its linear layers are given");
  const auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "A Hugging Face directory or a .gguf file")
      ->check(not_empty);
  command
      ->add_option("--text", options->source.text,
                   "The text, of which the first 85 % of the lines are used; default: WikiText-2's "
                   "valid split from $SQUISH_DATA, ../shared/data/wikitext-2 or the cache")
      ->check(not_empty);
  command->add_option("-o,--output", options->output, "The calibration file to write")
      ->check(not_empty)
      ->required();
  command->add_option("--tokens", options->source.tokens, "First tokens of the text to use; 0: all")
      ->check(not_negative)
      ->capture_default_str();
  command
      ->add_option("--ctx", options->source.ctx,
                   "Tokens in a window; 0: 2048, or the model's maximum")
      ->check(not_negative)
      ->capture_default_str();
  command->add_flag("--held-out", options->source.held_out,
                    "Use the last 15 % of the lines: to judge by, not to calibrate");
  command
      ->add_option("--max-memory", options->max_memory,
                   "Refuse a job that is expected to need more memory: 500M, 2GiB. What does not "
                   "have to be there lies in files beside the output")
      ->check(not_empty);
  options->saving.add_flags(*command);
  CLI::Option* const merge =
      command
          ->add_option("--merge", options->merge,
                       "Instead of running a model: add up these calibrations of one model")
          ->expected(2, 1 << 20)
          ->check(not_empty);
  for (const char* flag :
       {"--text", "--tokens", "--ctx", "--held-out", "--max-memory", "--resume", "--save-every"}) {
    merge->excludes(command->get_option(flag));
  }
  options->machine.add_flags(*command);
  command->footer(
      "Examples:\n"
      "  squish calibrate model.gguf -o model.calib\n"
      "  squish calibrate model.gguf --text code.txt -o code.calib --tokens 65536\n"
      "  squish calibrate --merge model.calib code.calib -o both.calib\n"
      "  mpirun --bind-to none -n 4 squish calibrate model.gguf -o model.calib");
  command->callback([options, &team] { run(*options, team); });
}

}  // namespace squish::apps
