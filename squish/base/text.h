#pragma once
#include <string>
#include <string_view>

namespace squish {

/// `text` on one line and harmless to a terminal: the bytes of control characters (C0, DEL and
/// C1) become \xNN. Names that come from files go through it before a person sees them.
std::string printable(std::string_view text);

}  // namespace squish
