#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "squish/base/isa.h"
#include "squish/evaluate/text.h"

/// One function a subcommand, each in the file of its name: it declares the flags and sets the
/// callback that does the work. Data go to standard output, all else to standard error; failures
/// are exceptions, which main() turns into one line and an exit code.
namespace squish::apps {

void add_bench(CLI::App& app);
void add_eval(CLI::App& app);
void add_run(CLI::App& app);
void add_inspect(CLI::App& app);
void add_methods(CLI::App& app);

/// The flags that every computing subcommand has.
struct Machine {
  int threads = 0;
  std::string isa = "auto";

  void add_flags(CLI::App& command);
  /// To be called before anything computes.
  void choose_isa() const;
};

/// The flags of perplexity.
struct TextFlags {
  std::string data, protocol = "gptq";
  std::size_t ctx = 0, tokens = 2048;

  void add_flags(CLI::App& command);
  evaluate::PassageOptions options() const;
};

}  // namespace squish::apps
