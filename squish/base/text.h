#pragma once
#include <string>
#include <string_view>

namespace squish {

/// `text` on one line and harmless to a terminal: the bytes of control characters (C0, DEL and
/// C1) become \xNN. Names that come from files go through it before a person sees them.
std::string printable(std::string_view text);

/// To standard error as it is, and nothing else: for signal handlers and where there is no memory.
/// Nothing can be done about a standard error that is closed.
void write_error(std::string_view text);

/// What the program says on standard error when it fails: a line that begins with its name.
void say_failure(std::string_view sentence);

}  // namespace squish
