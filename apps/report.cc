#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "squish/base/file.h"
#include "squish/report/page.h"

namespace squish::apps {
namespace {

struct Options {
  std::vector<std::string> sources;
  std::string output = "report.html";
};

void run(const Options& options) {
  for (const std::string& source : options.sources) check_output(options.output, {source});
  report::Page page;
  for (const std::string& source : options.sources) report::add_source(page, source);
  write_atomically(options.output, report::to_html(page));
  fmt::print(stderr, "page: {}\n", options.output);
}

}  // namespace

void add_report(CLI::App& app) {
  CLI::App* const command =
      app.add_subcommand("report", "Results as one HTML page with figures, which needs no network");
  const auto options = std::make_shared<Options>();
  command
      ->add_option("RESULTS", options->sources,
                   "Files that bench and eval wrote, side by side, and folders of checkpoints, of "
                   "which the rates and losses of all tensors are shown")
      ->check(not_empty)
      ->required();
  command->add_option("-o,--output", options->output, "The page")
      ->check(not_empty)
      ->capture_default_str();
  command->footer(
      "Example:\n"
      "  squish bench --model-dir model.gguf --output before.json\n"
      "  squish report before.json after.json model-q2 -o report.html");
  command->callback([options] { run(*options); });
}

}  // namespace squish::apps
