#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/progress.h"
#include "squish/base/text.h"
#include "squish/evaluate/host.h"
#include "squish/evaluate/model_bench.h"
#include "squish/evaluate/presets.h"
#include "squish/evaluate/weights.h"
#include "squish/io/digest.h"
#include "squish/report/json.h"
#include "squish/report/markdown.h"
#include "squish/report/page.h"

namespace squish::apps {
namespace {

using MatrixRow = evaluate::Row<evaluate::MatrixResult>;

struct Options {
  Machine machine;
  TextFlags text;
  TableFlags tables;
  FormatFlag output_format{"none"};
  bool dry_run = false, markdown = false;
  std::string model, weights, calibration, methods, preset = "fast";
  std::string output = "dev/results/quant_2bit_comparison.json";
  std::string html;
  std::string cache = (user_cache() / "bench").string();
  std::size_t tps_tokens = 128;
  std::size_t rows = 0, cols = 0;  // 0: the preset's
  double sigma = 0.02;
  std::uint64_t seed = 42;

  bool tables_wanted() const { return markdown || output_format.format == "md"; }
};

constexpr double kMinSigma = 1e-30, kMaxSigma = 1e10;

std::string sigma_in_range(const std::string& text) {
  double value = 0;
  if (CLI::detail::lexical_cast(text, value) && value >= kMinSigma && value <= kMaxSigma) return "";
  return fmt::format("{}: expected a number from {:g} to {:g}", text, kMinSigma, kMaxSigma);
}

/// Every flag's value; run() puts those in that are known only later.
report::Json config_json(const Options& options) {
  return {{"dry_run", options.dry_run},
          {"model_dir", options.model},
          {"ppl_data", options.text.data},
          {"ppl_protocol", options.text.protocol},
          {"ctx", options.text.ctx},
          {"ppl_tokens", options.text.tokens},
          {"tps_tokens", options.tps_tokens},
          {"markdown", options.markdown},
          {"format", options.output_format.format},
          {"output", options.output},
          {"html", options.html},
          {"preset", options.preset},
          {"methods", options.methods},
          {"weights", options.weights},
          {"calib", options.calibration},
          {"embed_bits", options.tables.embed_bits},
          {"head_bits", options.tables.head_bits},
          {"cache", options.cache},
          {"rows", options.rows},
          {"cols", options.cols},
          {"sigma", options.sigma},
          {"seed", options.seed},
          {"threads", options.machine.threads},
          {"isa", options.machine.isa}};
}

/// What was asked for, else `otherwise`.
std::vector<quant::Spec> specs_or(const Options& options, std::vector<quant::Spec> otherwise) {
  return options.methods.empty() ? std::move(otherwise) : evaluate::parse_specs(options.methods);
}

/// A model, and the text cut for it and the calibration where there is one.
struct Subject {
  io::ModelFiles files;
  std::optional<evaluate::Passage> passage;
  std::optional<io::Calibration> calibration;
  std::size_t shared_lines = 0;  // of the calibration's text and the passage's
  std::vector<compress::TensorRule> tables;

  const evaluate::Passage* known_passage() const { return passage ? &*passage : nullptr; }
};

Subject open_subject(const Options& options, ThreadPool& pool) {
  Subject subject{
      .files = io::open_model(options.model), .passage = {}, .calibration = {}, .tables = {}};
  if (!options.calibration.empty()) {
    subject.calibration = io::read_calibration(options.calibration);
    io::check_calibration(*subject.calibration, io::model_digest(subject.files, pool));
  }
  std::optional<evaluate::Text> text;
  try {
    text = evaluate::load_text(options.text.data);
  } catch (const Error& error) {
    if (!options.text.data.empty()) throw;
    fmt::print(stderr, "{}; stage 2 goes without\n", error.what());
  }
  if (text) {
    check_output(options.output, {text->path.string()});
    subject.passage =
        evaluate::cut_passage(*text, model::Tokenizer(subject.files.tokenizer),
                              subject.files.config.max_context, options.text.options());
    if (subject.calibration) {
      std::vector<std::uint64_t> shared;
      std::ranges::set_intersection(subject.calibration->text_lines,
                                    evaluate::line_hashes(text->raw), std::back_inserter(shared));
      subject.shared_lines = shared.size();
    }
  }
  subject.tables = compress::table_rules(subject.files.config, options.tables.embed_bits,
                                         options.tables.head_bits);
  evaluate::check_weights(subject.files, pool);
  return subject;
}

struct MatrixStage {
  std::size_t height = 0, width = 0;  // of the matrix
  std::string caption;
  bool source_quantized = false;
  std::vector<MatrixRow> rows;
};

MatrixStage run_matrix_stage(const Options& options, ThreadPool& pool) {
  const evaluate::Preset preset = evaluate::parse_preset(options.preset);
  const std::size_t size = evaluate::preset_size(preset);
  Matrix weights;
  std::string source;
  bool source_quantized = false;
  if (options.weights.empty()) {
    weights = evaluate::gaussian_matrix(options.rows > 0 ? options.rows : size,
                                        options.cols > 0 ? options.cols : size, options.sigma,
                                        options.seed, pool);
    source = fmt::format("i.i.d. N(0, {}²), seed {}", options.sigma, options.seed);
  } else {
    evaluate::NamedWeights named = evaluate::load_weights(options.weights, pool);
    weights = std::move(named.weights);
    source = printable(named.name);
    source_quantized = named.source_quantized;
  }
  MatrixStage stage{
      weights.rows(),
      weights.cols(),
      fmt::format("{} x {}, {}; {} threads", weights.rows(), weights.cols(), source, pool.size()),
      source_quantized,
      {}};
  const quant::EncodeContext context{.pool = pool, .seed = options.seed, .key = "benchmark"};
  const std::vector<quant::Spec> specs = specs_or(options, evaluate::preset_specs(preset));
  Progress progress(fmt::format("matrix {} x {}", weights.rows(), weights.cols()),
                    static_cast<double>(specs.size()));
  for (const quant::Spec& spec : specs) {
    progress.advance(0, spec.asked());
    MatrixRow& row =
        stage.rows.emplace_back(evaluate::make_row<evaluate::MatrixResult>(spec, options.seed));
    evaluate::run_step(row, [&] {
      row.result = evaluate::measure_matrix(weights, options.weights.empty(), spec, context);
    });
    progress.advance(1);
  }
  return stage;
}

void print_calibration(const Subject& subject) {
  for (const auto& run : subject.calibration->source.runs) {
    fmt::print("\nCalibrated on {} tokens of {} ({}, text {}).\n", run.tokens, printable(run.text),
               printable(run.protocol), printable(run.text_sha256));
  }
  if (subject.shared_lines > 0) {
    fmt::print(
        "\nTHE CALIBRATION HAS SEEN THIS TEXT: they share {} lines, and calibrated rows look "
        "better than they are.\n",
        subject.shared_lines);
  }
}

template <class Rows>
std::size_t failures(const Rows& rows) {
  return static_cast<std::size_t>(
      std::count_if(rows.begin(), rows.end(), [](const auto& row) { return !row.ok(); }));
}

/// What can be wrong with the request is found before anything is measured.
void check_request(const Options& options) {
  const bool stage2 = !options.model.empty() && !options.dry_run;
  if (!options.calibration.empty() && !stage2) {
    fail_usage(
        "--calib {}: a calibration is for stage 2, which needs --model-dir and runs without "
        "--dry-run",
        options.calibration);
  }
  if (options.tables.embed_bits + options.tables.head_bits > 0 && !stage2) {
    fail_usage("--embed-bits, --head-bits: for stage 2, which needs --model-dir, not --dry-run");
  }
  evaluate::parse_preset(options.preset);
  specs_or(options, {});
  options.text.options();
  const std::string weights = evaluate::split_weights_path(options.weights).file;
  check_output(options.output, {options.model, weights, options.text.data, options.calibration});
  if (options.html.empty()) return;
  if (std::filesystem::weakly_canonical(options.html) ==
      std::filesystem::weakly_canonical(options.output)) {
    fail_usage("--html {}: is the results file", options.html);
  }
  check_output(options.html,
               {options.output, options.model, weights, options.text.data, options.calibration});
}

void add_stage(report::Json& json, const MatrixStage& stage, const Options& options) {
  json["config"]["rows"] = stage.height;
  json["config"]["cols"] = stage.width;
  json["config"]["source_quantized"] = stage.source_quantized;
  for (const MatrixRow& row : stage.rows) json["stage1"].push_back(report::to_json(row));
  if (!options.tables_wanted()) return;
  fmt::print("{}\n\n{}", stage.caption, report::matrix_table(stage.rows));
  if (stage.source_quantized) fmt::print("{}", report::kQuantisedSource);
  std::fflush(stdout);
}

void add_stage(report::Json& json, const evaluate::ModelBench& stage, const Subject& subject,
               const Options& options, const ThreadPool& pool) {
  const evaluate::Passage* const passage = subject.known_passage();
  if (passage != nullptr) json["config"]["ctx"] = passage->ctx();
  json["model"] = report::to_json(subject.files);
  if (subject.calibration) {
    json["calibration"] = report::to_json(*subject.calibration, subject.shared_lines);
  }
  if (stage.noise) json["noise_floor"] = report::to_json(*stage.noise);
  for (const auto& row : stage.rows) json["stage2"].push_back(report::to_json(row, passage));
  check_mapped_files();  // nothing is said of what is not what it was
  if (!options.tables_wanted()) return;
  fmt::print("\n{}; {} threads\n\n{}", printable(subject.files.path.filename().string()),
             pool.size(), report::model_table(stage, passage, subject.files.source_quantized));
  if (subject.calibration) print_calibration(subject);
}

void write_results(const report::Json& json, const Options& options) {
  options.output_format.print(json);
  write_atomically(options.output, report::to_text(json));
  fmt::print(stderr, "results: {}\n", options.output);
  if (options.html.empty()) return;
  report::Page page;
  report::add_results(page, json, std::filesystem::path(options.output).filename().string());
  write_atomically(options.html, report::to_html(page));
  fmt::print(stderr, "page: {}\n", options.html);
}

void run(const Options& options) {
  options.machine.choose_isa();
  check_request(options);
  ThreadPool pool(options.machine.threads);
  std::optional<Subject> subject;
  if (!options.model.empty() && !options.dry_run) subject = open_subject(options, pool);
  evaluate::Host host = evaluate::describe_host(pool);
  host.read_bandwidth_gbs = evaluate::read_bandwidth(pool);
  report::Json json = {{"schema", "squish.bench/1"},     {"created", report::timestamp()},
                       {"host", report::to_json(host)},  {"squish", report::program_json()},
                       {"config", config_json(options)}, {"stage1", report::Json::array()},
                       {"stage2", report::Json::array()}};
  json["config"]["threads"] = pool.size();

  const MatrixStage stage1 = run_matrix_stage(options, pool);
  add_stage(json, stage1, options);
  evaluate::ModelBench stage2;
  if (subject) {
    stage2 = evaluate::bench_model(
        subject->files, subject->known_passage(),
        {.specs = specs_or(options, evaluate::model_specs()),
         .calibration = subject->calibration ? &*subject->calibration : nullptr,
         .tables = subject->tables,
         .cache = options.cache,
         .seed = options.seed,
         .tps_tokens = options.tps_tokens,
         .read_bandwidth_gbs = host.read_bandwidth_gbs},
        pool);
    add_stage(json, stage2, *subject, options, pool);
  }
  write_results(json, options);
  if (const std::size_t failed = failures(stage1.rows) + failures(stage2.rows); failed > 0) {
    fail("{} of {} rows failed; their status says why", failed,
         stage1.rows.size() + stage2.rows.size());
  }
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "bench", "Compare the methods on a matrix (stage 1) and on a model (stage 2)");
  const auto options = std::make_shared<Options>();
  command->add_flag("--dry-run", options->dry_run, "Stage 1 only");
  command
      ->add_option("--model-dir", options->model,
                   "A Hugging Face directory or a .gguf file: stages 1 and 2")
      ->check(not_empty);
  CLI::Option* const markdown =
      command->add_flag("--markdown", options->markdown, "The same as --format md");
  options->output_format.add_flags(*command);
  command->get_option("--format")->excludes(markdown);
  command->add_option("--output", options->output, "The results file (JSON)")
      ->check(not_empty)
      ->capture_default_str();
  command
      ->add_option("--html", options->html,
                   "Also a page with figures (squish report makes the same)")
      ->check(not_empty);
  command
      ->add_option("--preset", options->preset,
                   "Stage 1's matrix. fast: 64 x 64; high-fidelity: 4096 x 4096")
      ->capture_default_str();
  command
      ->add_option("--methods", options->methods,
                   "'SPEC;SPEC': compare these instead of the preset's (see squish methods)")
      ->check(not_empty);
  CLI::Option* const weights =
      command
          ->add_option("--weights", options->weights,
                       "FILE[:TENSOR] of a safetensors or GGUF file: stage 1 on this matrix")
          ->check(not_empty);
  command
      ->add_option("--calib", options->calibration,
                   "A calibration of the model (squish calibrate): stage 2 then compares every "
                   "method calibrated and not")
      ->check(not_empty);
  command
      ->add_option("--cache", options->cache,
                   "Where compressed models are kept, so that a repeated or killed run does not "
                   "compress again what it has; may be removed at any time")
      ->check(not_empty)
      ->capture_default_str();
  command->add_option("--rows", options->rows, "Output features of the synthetic matrix")
      ->check(CLI::Range(1, 1 << 20))
      ->excludes(weights);
  command->add_option("--cols", options->cols, "Input features of the synthetic matrix")
      ->check(CLI::Range(1, 1 << 20))
      ->excludes(weights);
  command->add_option("--sigma", options->sigma, "Standard deviation of the synthetic weights")
      ->check(sigma_in_range)
      ->excludes(weights)
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Seed of the weights and of the methods")
      ->check(not_negative)
      ->capture_default_str();
  options->tables.add_flags(*command);
  options->text.add_flags(*command);
  command->add_option("--tps-tokens", options->tps_tokens, "Tokens to generate for the speed")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  options->machine.add_flags(*command);
  command->footer(
      "Examples:\n"
      "  squish bench --markdown\n"
      "  squish bench --preset high-fidelity --methods 'quip:bits=2;vptq:v=8,k=256,r=16'\n"
      "  squish bench --weights model.safetensors:model.layers.0.mlp.up_proj.weight --markdown\n"
      "  squish bench --model-dir model.gguf --ppl-protocol llama.cpp --ppl-tokens 0 --markdown");
  command->callback([options] { run(*options); });
}

}  // namespace squish::apps
