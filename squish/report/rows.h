#pragma once
#include <string>

#include "squish/report/json.h"

/// The rows of results (of bench: both stages', of eval: its models') for other programs.
namespace squish::report {

/// A line of titles, then a line a row (RFC 4180 but for its line ends). Columns are all fields
/// that any row has, in the order in which they come; those of objects as `tps.median`; `stage`
/// first where there are two. Absent values and nulls are empty.
std::string to_csv(const Json& results);

/// An object a line.
std::string to_jsonl(const Json& results);

}  // namespace squish::report
