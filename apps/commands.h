#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "squish/base/isa.h"

/// One function a subcommand, each in the file of its name: it declares the flags and sets the
/// callback that does the work. Data go to standard output, all else to standard error; failures
/// are exceptions, which main() turns into one line and an exit code.
namespace squish::apps {

void add_bench(CLI::App& app);
void add_methods(CLI::App& app);

/// The flags that every computing subcommand has.
struct Machine {
  int threads = 0;
  std::string isa = "auto";

  void add_flags(CLI::App& command) {
    command.add_option("--threads", threads, "Threads; 0: one per core")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    command.add_option("--isa", isa, "Instruction set: auto, scalar, avx2 or avx512")
        ->capture_default_str();
  }
  /// To be called before anything computes.
  void choose_isa() const {
    if (isa != "auto") set_isa(parse_isa(isa));
  }
};

}  // namespace squish::apps
