#include "apps/commands.h"

namespace squish::apps {

void Machine::add_flags(CLI::App& command) {
  command.add_option("--threads", threads, "Threads; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_option("--isa", isa, "Instruction set: auto, scalar, avx2 or avx512")
      ->capture_default_str();
}

void Machine::choose_isa() const {
  if (isa != "auto") set_isa(parse_isa(isa));
}

void TextFlags::add_flags(CLI::App& command) {
  command.add_option("--ppl-data", data,
                     "The text for perplexity; default: WikiText-2's raw test split from "
                     "$SQUISH_DATA, ../shared/data/wikitext-2 or the cache");
  command
      .add_option("--ppl-protocol", protocol,
                  "gptq: windows of 2048, all but the first token scored; llama.cpp: windows of "
                  "512, the second half scored")
      ->capture_default_str();
  command.add_option("--ctx", ctx, "Tokens in a window; 0: the protocol's")->capture_default_str();
  command.add_option("--ppl-tokens", tokens, "First tokens of the text to use; 0: all")
      ->capture_default_str();
}

evaluate::PassageOptions TextFlags::options() const {
  return {.protocol = evaluate::parse_protocol(protocol), .ctx = ctx, .tokens = tokens};
}

}  // namespace squish::apps
