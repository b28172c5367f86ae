#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "apps/commands.h"
#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/report/rows.h"

namespace squish::apps {
namespace {

/// Whether `path` is the file `other`, or exists in the directory `other`.
bool is_or_is_inside(const std::filesystem::path& path, const std::filesystem::path& other) {
  std::error_code error;
  if (std::filesystem::equivalent(path, other, error)) return true;
  if (!std::filesystem::exists(path, error) || !std::filesystem::is_directory(other, error)) {
    return false;
  }
  const auto inner = std::filesystem::canonical(path, error);
  const auto outer = std::filesystem::canonical(other, error);
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

}  // namespace

std::string not_empty(const std::string& value) {
  return value.empty() ? "expected a value, found an empty one" : "";
}

std::string not_negative(const std::string& value) {
  const bool digits = value.find_first_not_of("0123456789") == std::string::npos;
  return !value.empty() && digits ? "" : value + ": expected a whole number from 0 on";
}

void check_output(const std::string& output, std::initializer_list<std::string> inputs) {
  for (const std::string& input : inputs) {
    if (!input.empty() && is_or_is_inside(output, input)) {
      fail_usage("--output {} would replace an input ({})", output, input);
    }
  }
  check_writable(output);
}

void Machine::add_flags(CLI::App& command) {
  command.add_option("--threads", threads, "Threads; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_option("--isa", isa, "Instruction set: auto, scalar, avx2, avx512 or avx512vbmi")
      ->capture_default_str();
}

void Machine::choose_isa() const {
  if (isa != "auto") set_isa(parse_isa(isa));
}

void FormatFlag::add_flags(CLI::App& command) {
  command
      .add_option(
          "--format", format,
          "On standard output: none, md (tables), csv or jsonl (the rows), json (what --output "
          "holds)")
      ->check(CLI::IsMember({"none", "md", "csv", "json", "jsonl"}))
      ->capture_default_str();
}

void KvFlag::add_flags(CLI::App& command, const std::string& by_default) {
  std::map<std::string, model::KvElement> elements;
  for (const auto kv : {model::KvElement::f32, model::KvElement::f16, model::KvElement::int8}) {
    elements[model::to_string(kv)] = kv;
  }
  command
      .add_option("--kv", element,
                  "What keys and values of past tokens are kept as: f32, f16 of half the size, or "
                  "int8 of about a quarter")
      ->transform(CLI::CheckedTransformer(elements))
      ->default_str(by_default);
}

void FormatFlag::print(const report::Json& results) const {
  if (format == "csv") fmt::print("{}", report::to_csv(results));
  if (format == "json") fmt::print("{}", report::to_text(results));
  if (format == "jsonl") fmt::print("{}", report::to_jsonl(results));
}

void ResumeFlags::add_flags(CLI::App& command) {
  command.add_flag("--resume", resume, "Go on from what a killed run saved beside the output");
  command
      .add_option("--save-every", save_every,
                  "Seconds between two saves; 0: after every window or part")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
}

void TableFlags::add_flags(CLI::App& command) {
  for (const auto& [flag, bits, what] :
       {std::tuple{"--embed-bits", &embed_bits, "embedding (which the head is, where it is tied)"},
        {"--head-bits", &head_bits, "head"}}) {
    command
        .add_option(flag, *bits,
                    fmt::format("Store the {} as int2 to int8, uncalibrated, in groups of 64 with "
                                "f16 scales and zero points; default: as in the source",
                                what))
        ->check(CLI::Range(2, 8));
  }
}

void TextFlags::add_flags(CLI::App& command) {
  command
      .add_option("--ppl-data", data,
                  "The text for perplexity; default: WikiText-2's raw test split from "
                  "$SQUISH_DATA, ../shared/data/wikitext-2 or the cache")
      ->check(not_empty);
  command
      .add_option("--ppl-protocol", protocol,
                  "gptq: windows of 2048, all but the first token scored; llama.cpp: windows of "
                  "512, the second half scored")
      ->capture_default_str();
  command.add_option("--ctx", ctx, "Tokens in a window; 0: the protocol's")
      ->check(not_negative)
      ->capture_default_str();
  command.add_option("--ppl-tokens", tokens, "First tokens of the text to use; 0: all")
      ->check(not_negative)
      ->capture_default_str();
}

evaluate::PassageOptions TextFlags::options() const {
  const evaluate::PassageOptions options{
      .protocol = evaluate::parse_protocol(protocol), .ctx = ctx, .tokens = tokens};
  // The fewest that leave one to score.
  const std::size_t fewest = options.protocol == evaluate::Protocol::gptq ? 2 : 3;
  for (const auto& [flag, value] : {std::pair{"--ctx", ctx}, std::pair{"--ppl-tokens", tokens}}) {
    if (value > 0 && value < fewest) {
      fail_usage("{} {}: expected 0 or at least {} tokens", flag, value, fewest);
    }
  }
  if (!data.empty()) MappedFile{data};  // fails where it cannot be read
  return options;
}

std::uint64_t parse_size(const std::string& text, const char* flag) {
  static const std::map<std::string, double> kUnits = {
      {"", 1},     {"K", 1e3},  {"M", 1e6},      {"G", 1e9},         {"KB", 1e3},
      {"MB", 1e6}, {"GB", 1e9}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  const std::size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  const auto unit = kUnits.find(text.substr(end));
  double value = 0;
  if (unit == kUnits.end() || !CLI::detail::lexical_cast(text.substr(0, end), value) ||
      !(value * unit->second >= 1) || value * unit->second > 1e18) {
    fail_usage("{} {}: expected a number of bytes, as in 50M or 48MiB", flag, text);
  }
  return static_cast<std::uint64_t>(value * unit->second);
}

}  // namespace squish::apps
