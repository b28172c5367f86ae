#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/interrupt.h"
#include "squish/base/progress.h"
#include "squish/compress/log.h"
#include "squish/evaluate/host.h"
#include "squish/evaluate/model_bench.h"
#include "squish/evaluate/scores_file.h"
#include "squish/report/json.h"
#include "squish/report/markdown.h"

namespace squish::apps {
namespace {

constexpr std::size_t kTpsTokens = 128;

struct Options {
  Machine machine;
  TextFlags text;
  std::vector<std::string> models;
  std::string reference, output;
  ResumeFlags saving;
  FormatFlag output_format{"md"};
  bool fused = false, fused_prompts = false;
  KvFlag kv;

  /// Tokens at a time that go through the kernels for one; more go through those for several.
  /// 0: all are multiplied by decoded weights in f32.
  std::size_t few() const {
    return fused ? std::numeric_limits<std::size_t>::max() : fused_prompts ? 1 : 0;
  }
};

/// The models and, if one is given, the reference. All have one vocabulary.
struct Subjects {
  std::vector<io::ModelFiles> models;
  std::optional<io::ModelFiles> reference;
  std::size_t max_context = std::numeric_limits<std::size_t>::max();

  explicit Subjects(const Options& options) {
    for (const std::string& model : options.models) models.push_back(io::open_model(model));
    if (!options.reference.empty()) reference = io::open_model(options.reference);
    const io::ModelFiles& first = reference ? *reference : models[0];
    for (const io::ModelFiles& files : models) {
      max_context = std::min(max_context, files.config.max_context);
      if (files.tokenizer.tokens == first.tokenizer.tokens) continue;
      fail("{} and {} have different vocabularies and cannot be compared", files.path.string(),
           first.path.string());
    }
    max_context = std::min(max_context, first.config.max_context);
  }

  /// The reference first.
  std::vector<const io::ModelFiles*> all() const {
    std::vector<const io::ModelFiles*> found;
    if (reference) found.push_back(&*reference);
    for (const io::ModelFiles& files : models) found.push_back(&files);
    return found;
  }
};

/// Without the keys that have their default, but for the rate: what was asked for, as far as a
/// checkpoint knows.
std::string in_short(const std::string& full) {
  const quant::Spec spec = quant::Spec::parse(full);
  std::string text = spec.method();
  char mark = ':';
  for (const quant::Key& key : quant::find_method(spec.method()).keys) {
    if (spec.word(key.name) == key.fallback && key.name != "bits") continue;
    text += mark + key.name + "=" + spec.word(key.name);
    mark = ',';
  }
  return text;
}

evaluate::Row<evaluate::ModelResult> make_row(const io::ModelFiles& files) {
  auto row = evaluate::uncompressed_row(files, 0);
  row.model = files.path.string();
  if (files.spec.empty()) return row;                          // not a checkpoint
  const bool mixed = files.spec.find(';') != files.spec.npos;  // chosen tensor by tensor
  row.method = mixed ? "mixed" : quant::Spec::parse(files.spec).method();
  row.spec = mixed ? "mixed" : in_short(files.spec);
  row.spec_full = files.spec;
  row.calibrated = files.calibrated;
  row.sequential = files.sequential;
  row.result->cost = compress::logged_cost(files.path);
  return row;
}

bool equal(const Matrix& a, const Matrix& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Fills in quality and, with a reference, the noise floor. `file`, if there is one, keeps what is
/// found on the way.
void measure_quality(const Subjects& subjects, const Options& options,
                     const evaluate::Passage& passage, evaluate::ScoresFile* file,
                     evaluate::ModelBench& bench, Team& team, ThreadPool& pool) {
  std::shared_ptr<const Matrix> known;  // checkpoints mostly have the head of their source
  const auto load = [&](const io::ModelFiles& files, std::size_t few) {
    if (few > 0) return model::load_transformer(files, pool, few);
    std::shared_ptr<const Matrix> head = model::load_head(files, pool);
    if (known != nullptr && equal(*head, *known)) head = known;
    known = head;
    return model::load_for_windows(files, std::move(head), pool);
  };
  const auto load_own = [&](const io::ModelFiles& files) {
    model::Transformer own = load(files, options.few());
    own.kv = options.kv.of_windows();
    return own;
  };
  const std::size_t count = subjects.models.size();
  const std::size_t passes = subjects.all().size();
  std::vector<evaluate::Scores> scores(passes);
  if (file != nullptr && options.saving.resume && team.leads())
    scores = file->read(passes, passage);
  Progress progress("perplexity " + passage.label,
                    static_cast<double>(passage.windows.size() * passes), !team.leads());
  for (const evaluate::Scores& own : scores) {
    const std::size_t windows = own.nll.size() / passage.scored_per_window();
    progress.advance(static_cast<double>(windows));
  }
  const auto done = [&] { progress.advance(1); };
  const auto keep = [&](std::span<const evaluate::Scores> all) {
    if (file != nullptr) file->keep(all);
  };
  if (!subjects.reference) {
    for (std::size_t i = 0; i < count; ++i) {
      const model::Transformer own = load_own(subjects.models[i]);
      const auto keep_one = [&](const auto& one) {
        scores[i] = one[0];
        keep(scores);
      };
      evaluate::score(own, {}, passage, pool, done, {scores[i]}, keep_one, &team);
      if (team.leads()) bench.rows[i].result->quality = evaluate::summarise(scores[i], nullptr);
    }
    return;
  }
  const model::Transformer reference = load(*subjects.reference, 0);
  std::vector<model::Transformer> own;
  for (const io::ModelFiles& files : subjects.models) own.push_back(load_own(files));
  std::vector<const model::Transformer*> candidates;
  for (const model::Transformer& model : own) candidates.push_back(&model);
  scores =
      evaluate::score(reference, candidates, passage, pool, done, std::move(scores), keep, &team);
  if (!team.leads()) return;
  for (std::size_t i = 0; i < count; ++i) {
    bench.rows[i].result->quality = evaluate::summarise(scores[i + 1], &scores[0]);
  }
  bench.noise = evaluate::noise_floor(reference, passage, pool);
}

report::Json results_json(const Options& options, const Subjects& subjects,
                          const evaluate::Passage& passage, const evaluate::Host& host,
                          const evaluate::ModelBench& bench, const Team& team,
                          const ThreadPool& pool) {
  report::Json json = {{"schema", "squish.eval/1"},
                       {"created", report::timestamp()},
                       {"host", report::to_json(host)},
                       {"squish", report::program_json()},
                       {"config",
                        {{"models", options.models},
                         {"reference", options.reference},
                         {"ppl_data", options.text.data},
                         {"ppl_protocol", options.text.protocol},
                         {"ctx", passage.ctx()},
                         {"ppl_tokens", options.text.tokens},
                         {"fused", options.fused},
                         {"fused_prompts", options.fused_prompts},
                         {"kv", options.kv.element ? model::to_string(*options.kv.element) : ""},
                         {"output", options.output},
                         {"threads", pool.size()},
                         {"ranks", team.size()},
                         {"isa", options.machine.isa}}},
                       {"models", report::Json::array()}};
  for (const io::ModelFiles& files : subjects.models) {
    json["models"].push_back(report::to_json(files));
  }
  if (subjects.reference) json["reference"] = report::to_json(*subjects.reference);
  if (bench.noise) json["noise_floor"] = report::to_json(*bench.noise);
  json["rows"] = report::Json::array();
  for (const auto& row : bench.rows) json["rows"].push_back(report::to_json(row, &passage));
  return json;
}

/// Fills in tokens per second.
void measure_speed(const Subjects& subjects, const Options& options, double read_bandwidth_gbs,
                   evaluate::ModelBench& bench, ThreadPool& pool) {
  Progress speed("generate", static_cast<double>(subjects.models.size()));
  for (std::size_t i = 0; i < subjects.models.size(); ++i) {
    bench.rows[i].result->throughput =
        evaluate::measure_throughput(model::load_transformer(subjects.models[i], pool), kTpsTokens,
                                     read_bandwidth_gbs, pool, options.kv.of_generation());
    speed.advance(1);
  }
}

void run(const Options& options, Team& team) {
  options.machine.choose_isa();
  if (options.saving.resume && options.output.empty())
    fail_usage("--resume: expected --output as well");
  const evaluate::PassageOptions passage_options = options.text.options();
  const Subjects subjects(options);
  const evaluate::Text text = evaluate::load_text(options.text.data);
  const evaluate::Passage passage = evaluate::cut_passage(
      text, model::Tokenizer(subjects.models[0].tokenizer), subjects.max_context, passage_options);
  if (!options.output.empty() && team.leads()) {
    for (const std::string& model : options.models) {
      check_output(options.output, {model, options.reference, text.path.string()});
    }
  }

  ThreadPool pool(options.machine.threads_of(team));
  evaluate::Host host = evaluate::describe_host(pool);
  if (team.leads()) host.read_bandwidth_gbs = evaluate::read_bandwidth(pool);
  team.broadcast("");  // others wait, so that it is not theirs as well
  evaluate::ModelBench bench;
  for (const io::ModelFiles& files : subjects.models) bench.rows.push_back(make_row(files));
  std::string digest;  // once, if at all: it reads the models
  const auto pass = [&] {
    if (digest.empty()) {
      digest = evaluate::pass_digest(subjects.all(),
                                     {subjects.reference.has_value(), options.few(),
                                      model::to_string(options.kv.of_windows())},
                                     passage, team, pool);
    }
    return digest;
  };
  if (team.size() > 1 && team.broadcast(pass()) != pass()) {
    fail("its models, text, program or instruction set are not the first rank's");
  }
  std::optional<evaluate::ScoresFile> scores;
  if (!options.output.empty()) {
    scores.emplace(options.output + ".unfinished", pass, options.saving.save_every);
    notice_interrupts(!team.leads());
  }
  measure_quality(subjects, options, passage, scores ? &*scores : nullptr, bench, team, pool);
  if (!team.leads()) return;
  measure_speed(subjects, options, host.read_bandwidth_gbs, bench, pool);

  check_mapped_files();  // nothing is said of what is not what it was
  // What a checkpoint was made from is the reference, if that is here.
  const io::ModelFiles& first = subjects.models[0];
  const bool source_quantized = subjects.reference ? subjects.reference->source_quantized
                                                   : first.spec.empty() && first.source_quantized;
  if (options.output_format.format == "md") {
    fmt::print("{}", report::model_table(bench, &passage, source_quantized));
  }
  const report::Json json = results_json(options, subjects, passage, host, bench, team, pool);
  options.output_format.print(json);
  if (options.output.empty()) return;
  write_atomically(options.output, report::to_text(json));
  scores->remove();
}

}  // namespace

void add_eval(CLI::App& app, Team& team) {
  CLI::App* const command = app.add_subcommand(
      "eval", "Perplexity and speed of models; with a reference, how far they are from that");
  const auto options = std::make_shared<Options>();
  command
      ->add_option("MODEL", options->models,
                   "Hugging Face directories, .gguf files or checkpoints, of one vocabulary")
      ->check(not_empty)
      ->required();
  command
      ->add_option("--reference", options->reference,
                   "The model to compare with: adds ΔNLL, KL divergence and top-1 agreement")
      ->check(not_empty);
  options->text.add_flags(*command);
  command->add_flag(
      "--fused", options->fused,
      "Predict through the kernels that generate, which round their inputs, instead of "
      "decoded weights: slower, and what generation costs besides");
  command
      ->add_flag("--fused-prompts", options->fused_prompts,
                 "Predict as prompts are read, several tokens at a time from the stored bytes (by "
                 "AMX or AVX512-BF16 where the CPU has them)")
      ->excludes("--fused");
  options->kv.add_flags(*command, "f32 for quality, f16 for speed");
  command->add_option("--output", options->output, "Also write the results as JSON")
      ->check(not_empty);
  options->output_format.add_flags(*command);
  options->saving.add_flags(*command);
  options->machine.add_flags(*command);
  command->footer(
      "Example, the figure that llama.cpp quotes for 64 windows:\n"
      "  squish eval model.gguf --ppl-protocol llama.cpp --ppl-tokens 32768\n"
      "Two checkpoints against their source, in one pass over the text:\n"
      "  squish eval model-q2 model-q3 --reference model.gguf --ppl-tokens 0\n"
      "The windows shared out among 4 processes, or more on several machines:\n"
      "  mpirun --bind-to none -n 4 squish eval model-q2 --reference model.gguf --ppl-tokens 0");
  command->callback([options, &team] { run(*options, team); });
}

}  // namespace squish::apps
