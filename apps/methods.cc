#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "squish/quant/quantizer.h"
#include "squish/report/json.h"

namespace squish::apps {
namespace {

std::string range(const quant::Key& key) {
  if (!key.choices.empty()) return fmt::format("{}", fmt::join(key.choices, " | "));
  return fmt::format("{} .. {}", key.low, key.high);
}

void print_text() {
  for (const quant::Method& method : quant::methods()) {
    fmt::print("{}: {}\n  source: {}\n", method.name, method.summary, method.source);
    for (const quant::Key& key : method.keys) {
      fmt::print("  {:<8} default {:<6} {:<14} {}\n", key.name, key.fallback, range(key), key.help);
    }
    fmt::print("\n");
  }
}

void print_json() {
  report::Json list = report::Json::array();
  for (const quant::Method& method : quant::methods()) {
    report::Json keys = report::Json::array();
    for (const quant::Key& key : method.keys) {
      report::Json item = {{"name", key.name}, {"default", key.fallback}, {"help", key.help}};
      if (key.choices.empty()) {
        item["type"] = key.real ? "real" : "integer";
        item["low"] = key.low;
        item["high"] = key.high;
      } else {
        item["type"] = "choice";
        item["choices"] = key.choices;
      }
      keys.push_back(std::move(item));
    }
    list.push_back({{"name", method.name},
                    {"summary", method.summary},
                    {"source", method.source},
                    {"keys", std::move(keys)}});
  }
  fmt::print("{}", report::to_text({{"schema", "squish.methods/1"}, {"methods", std::move(list)}}));
}

}  // namespace

void add_methods(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "methods", "List every method with its keys, their defaults and ranges, and its source");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "As JSON");
  command->footer(
      "A SPEC is a method and its keys, METHOD:KEY=VALUE,KEY=VALUE; keys left out take their\n"
      "defaults. For example int4:sym=0,g=64,clip=mse");
  command->callback([json] { *json ? print_json() : print_text(); });
}

}  // namespace squish::apps
