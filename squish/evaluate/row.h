#pragma once
#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <string>

#include "squish/quant/spec.h"

namespace squish::evaluate {

/// One line of a table: what was asked for, and the result or the sentence that says why there is
/// none.
template <class Result>
struct Row {
  std::string method, spec, spec_full;
  std::uint64_t seed = 0;
  bool calibrated = false;  ///< the method was given the moments of the weights' inputs
  bool sequential = false;  ///< and those behind the layers compressed before
  std::string model = {};   ///< of eval: the file or folder
  std::string status = "ok";
  std::optional<Result> result = {};

  bool ok() const { return status == "ok"; }
};

template <class Result>
Row<Result> make_row(const quant::Spec& spec, std::uint64_t seed) {
  return {.method = spec.method(), .spec = spec.asked(), .spec_full = spec.full(), .seed = seed};
}

/// Runs `body`, unless the row has failed before; an exception becomes the row's status, so that
/// the other rows still run.
template <class Result, class Body>
void run_step(Row<Result>& row, const Body& body) {
  if (!row.ok()) return;
  try {
    body();
  } catch (const std::bad_alloc&) {
    row.status = "out of memory";
  } catch (const std::exception& error) {
    row.status = error.what();
  }
}

}  // namespace squish::evaluate
