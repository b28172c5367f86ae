#pragma once
#include <CLI/CLI.hpp>
#include <initializer_list>
#include <optional>
#include <string>

#include "squish/base/isa.h"
#include "squish/base/team.h"
#include "squish/compress/calibration_job.h"
#include "squish/evaluate/text.h"
#include "squish/model/attention.h"
#include "squish/report/json.h"

/// One function a subcommand, each in the file of its name: it declares the flags and sets the
/// callback that does the work. Data go to standard output, all else to standard error; failures
/// are exceptions, which main() turns into one line and an exit code.
namespace squish::apps {

void add_bench(CLI::App& app);
void add_eval(CLI::App& app, Team& team);
void add_calibrate(CLI::App& app, Team& team);
void add_run(CLI::App& app);
void add_inspect(CLI::App& app);
void add_methods(CLI::App& app);
void add_quantize(CLI::App& app, Team& team);
void add_verify(CLI::App& app);
void add_dequantize(CLI::App& app);
void add_report(CLI::App& app);
void add_speed(CLI::App& app);
/// After all others, which it names.
void add_completion(CLI::App& app);

/// For CLI::Option::check(): a sentence against an empty value, or one that is not a whole number
/// from 0 on.
std::string not_empty(const std::string& value);
std::string not_negative(const std::string& value);

/// UsageError if writing `output` would replace one of `inputs` (files; of a directory, any file in
/// it; empty ones are skipped), Error if it cannot be written at all.
void check_output(const std::string& output, std::initializer_list<std::string> inputs);

/// The flags that every computing subcommand has.
struct Machine {
  int threads = 0;
  std::string isa = "auto";

  void add_flags(CLI::App& command);
  /// To be called before anything computes.
  void choose_isa() const;
  /// For a ThreadPool: what was asked for, or this rank's share.
  int threads_of(const Team& team) const { return threads != 0 ? threads : team.threads(); }
};

/// Bits of the matrices outside the blocks, 0: as in the source.
struct TableFlags {
  int embed_bits = 0, head_bits = 0;

  void add_flags(CLI::App& command);
};

/// The flags of jobs that save what they have beside their output.
struct ResumeFlags {
  bool resume = false;
  double save_every = 60;  ///< seconds

  void add_flags(CLI::App& command);
};

/// What keys and values of past tokens are kept as.
struct KvFlag {
  std::optional<model::KvElement> element;

  void add_flags(CLI::App& command, const std::string& by_default);
  model::KvElement of_windows() const { return element.value_or(model::KvElement::f32); }
  model::KvElement of_generation() const { return element.value_or(model::KvElement::f16); }
};

/// What of the results goes to standard output.
struct FormatFlag {
  std::string format;  ///< none, md, csv, json or jsonl

  void add_flags(CLI::App& command);
  /// csv, json or jsonl of the results; nothing otherwise: tables are the command's own.
  void print(const report::Json& results) const;
};

/// The flags of perplexity.
struct TextFlags {
  std::string data, protocol = "gptq";
  std::size_t ctx = 0, tokens = 2048;

  void add_flags(CLI::App& command);
  /// UsageError or Error if they make no sense, even where no text will be needed.
  evaluate::PassageOptions options() const;
};

/// Which part of a text a model is calibrated on.
struct CalibrationText {
  std::string text = {};                     ///< a file; empty: the default one
  std::size_t tokens = 128 * 2048, ctx = 0;  ///< 0: all; the protocol's
  bool held_out = false;                     ///< the last 15 % of the lines, not the first 85 %
};

/// That part of `text`, cut for the model; the text becomes that part.
evaluate::Passage cut_calibration_text(const io::ModelFiles& files, const CalibrationText& source,
                                       evaluate::Text& text);

/// compress::run_calibration() over that text, with progress; `job` says where to, how and by whom.
io::Calibration run_calibration(const io::ModelFiles& files, const CalibrationText& source,
                                compress::CalibrationJob job, ThreadPool& pool);

/// "50M", "1.5GiB": a number of bytes. UsageError naming the flag otherwise.
std::uint64_t parse_size(const std::string& text, const char* flag);

}  // namespace squish::apps
