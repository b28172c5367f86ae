#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>

#include "apps/commands.h"
#include "apps/mpi_team.h"
#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/base/mapped_file.h"
#include "squish/base/text.h"
#include "squish/base/version.h"
#include "squish/evaluate/host.h"
#include "squish/linalg/gemm.h"

namespace squish::apps {
namespace {

constexpr int kFailed = 1, kUsage = 2;

std::string version_text() {
  const evaluate::Host host = evaluate::describe_host(ThreadPool(1));
  return fmt::format("squish {} ({}, {}; using {} of {}; {})", kVersion, kCommit, kCompiler,
                     host.isa, host.isa_available, host.blas);
}

int complain(int code, const std::string& sentence) {
  say_failure(sentence);
  return code;
}

/// A full disk or a closed pipe shows only when everything is written out.
int finish(int code) {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && !std::ferror(stdout) && std::cout) return code;
  return complain(kFailed, "standard output cannot be written");
}

constexpr const char* kOutOfMemory = "out of memory";
std::atomic<bool> ran_out = false;

/// Functions that may not throw ask for memory, in libraries above all (JSON, the file system's):
/// there it ends the program, which says so then.
void say_when_out_of_memory() {
  std::set_new_handler([] {
    ran_out = true;
    throw std::bad_alloc();
  });
  static const std::terminate_handler usual = std::get_terminate();
  std::set_terminate([] {
    if (!ran_out) usual();
    for (const char* part : {"squish: ", kOutOfMemory, "\n"}) write_error(part);
    std::_Exit(kFailed);
  });
}

/// OpenBLAS settles its kernel when it is loaded. Where it took one that is slower by ten than what
/// the CPU could run, the program begins again with the right one named.
void choose_blas_kernel(char** argv) {
  constexpr const char* kVariable = "OPENBLAS_CORETYPE";
  if (std::getenv(kVariable) != nullptr) return;
  const std::string better =
      linalg::better_blas_kernel(linalg::blas_kernel(), available_isas().back());
  if (better.empty() || ::setenv(kVariable, better.c_str(), 1) != 0) return;
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || self.filename().string().starts_with("ld")) return;  // the loader, by its name
  ::execv(self.c_str(), argv);  // should that fail, products are slow, no more
}

/// Commands whose work can be shared out.
void check_can_share(const std::string& command, const Team& team) {
  for (const char* name : {"calibrate", "quantize", "eval"}) {
    if (command == name) return;
  }
  fail_usage("'squish {}' runs as one process, found {} ranks", command, team.size());
}

int run(int argc, char** argv, Team& team) {
  CLI::App app(
      "Extreme compression of language model weights: INT4, VPTQ, AQLM, QuIP# and trellis codes in "
      "one program, compared by one yardstick.",
      "squish");
  app.set_version_flag("--version", version_text,
                       "Print version, compiler, instruction sets, BLAS");
  app.require_subcommand(0, 1);  // none at all is met below, with a better sentence
  app.footer(
      "Examples:\n"
      "  squish bench --markdown                       every method on a 64 x 64 matrix\n"
      "  squish bench --model-dir model.gguf --markdown   the same, then on the model\n"
      "  squish methods                                what a SPEC may say\n"
      "Each subcommand has its own --help. Exit codes: 0 success, 1 failure, 2 wrong usage,\n"
      "130 or 143: stopped by SIGINT or SIGTERM, what there is saved.");
  add_bench(app);
  add_eval(app, team);
  add_calibrate(app, team);
  add_run(app);
  add_inspect(app);
  add_methods(app);
  add_quantize(app, team);
  add_verify(app);
  add_dequantize(app);
  add_report(app);
  add_speed(app);
  add_completion(app);

  const auto failed = [&](int code, const std::string& sentence) {
    if (team.leads()) complain(code, sentence);
    team.give_up(code, sentence);
    return code;
  };
  try {
    if (team.size() > 1) check_can_share(argc > 1 ? argv[1] : "", team);
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) fail_usage("a subcommand is expected; see squish --help");
    return finish(0);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return finish(app.exit(error));  // --help, --version
    return failed(kUsage, error.what());
  } catch (const Interrupted& error) {
    return failed(128 + error.signal(), error.what());
  } catch (const UsageError& error) {
    return failed(kUsage, error.what());
  } catch (const std::bad_alloc&) {
    return failed(kFailed, kOutOfMemory);
  } catch (const std::exception& error) {
    return failed(kFailed, error.what());
  }
}

/// Alone, unless it was started among others.
int run(int argc, char** argv) {
  try {
    return run(argc, argv, *join_team());
  } catch (const std::bad_alloc&) {
    return complain(kFailed, kOutOfMemory);
  } catch (const std::exception& error) {
    return complain(kFailed, error.what());
  }
}

}  // namespace
}  // namespace squish::apps

int main(int argc, char** argv) {
  squish::apps::say_when_out_of_memory();
  squish::report_lost_pages(squish::apps::kFailed);
  squish::apps::choose_blas_kernel(argv);
  return squish::apps::run(argc, argv);
}
