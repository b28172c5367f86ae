#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "apps/commands.h"

// Scripts that complete commands and flags in a shell, written from the same flags that are parsed.
namespace squish::apps {
namespace {

/// "--output" and "-o" of one option.
std::vector<std::string> names(const CLI::Option& option) {
  std::vector<std::string> found;
  for (const std::string& name : option.get_lnames()) found.push_back("--" + name);
  for (const std::string& name : option.get_snames()) found.push_back("-" + name);
  return found;
}

/// A description's first clause, without what zsh's _arguments would read as its own.
std::string summary(const std::string& description) {
  std::string text = description.substr(0, description.find_first_of(".;:\n"));
  for (char& c : text) {
    if (c == '\'' || c == '[' || c == ']' || c == '\\' || c == '`' || c == '$') c = ' ';
  }
  return text;
}

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> found;
  for (const CLI::App* command : app.get_subcommands({})) found.push_back(command->get_name());
  return found;
}

void print_bash(const CLI::App& app) {
  fmt::print(
      "# bash completion for squish\n"
      "_squish() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} words=''\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    words='{} --help --version'\n"
      "  elif [[ $word == -* ]]; then\n"
      "    case ${{COMP_WORDS[1]}} in\n",
      fmt::join(commands_of(app), " "));
  for (const CLI::App* command : app.get_subcommands({})) {
    std::vector<std::string> flags;
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : names(*option)) flags.push_back(name);
    }
    fmt::print("      {}) words='{}' ;;\n", command->get_name(), fmt::join(flags, " "));
  }
  fmt::print(
      "    esac\n"
      "  fi\n"
      "  [ -z \"$words\" ] || mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
      "}}\n"
      "complete -o default -F _squish squish\n");
}

void print_zsh(const CLI::App& app) {
  fmt::print(
      "#compdef squish\n"
      "local -a commands\n"
      "commands=(\n");
  for (const CLI::App* command : app.get_subcommands({})) {
    fmt::print("  '{}:{}'\n", command->get_name(), summary(command->get_description()));
  }
  fmt::print(
      ")\n"
      "if (( CURRENT == 2 )); then\n"
      "  _describe command commands\n"
      "  return\n"
      "fi\n"
      "case $words[2] in\n");
  for (const CLI::App* command : app.get_subcommands({})) {
    fmt::print("  {})\n    _arguments \\\n", command->get_name());
    for (const CLI::Option* option : command->get_options()) {
      const bool has_value = option->get_items_expected_max() > 0;
      for (const std::string& name : names(*option)) {
        fmt::print("      '{}[{}]{}' \\\n", name, summary(option->get_description()),
                   has_value ? ":value:_files" : "");
      }
    }
    fmt::print("      '*:file:_files' ;;\n");
  }
  fmt::print("esac\n");
}

}  // namespace

void add_completion(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "completion", "Print a script that completes commands and flags in a shell");
  const auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash or zsh")
      ->check(CLI::IsMember({"bash", "zsh"}))
      ->required();
  command->footer(
      "Examples:\n"
      "  squish completion bash > /etc/bash_completion.d/squish\n"
      "  squish completion zsh > ~/.zfunc/_squish");
  command->callback([shell, &app] { *shell == "bash" ? print_bash(app) : print_zsh(app); });
}

}  // namespace squish::apps
