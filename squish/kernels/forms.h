#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

#include "squish/kernels/kernel.h"

namespace squish::kernels {

/// A layer's input in each form that its kernels want it in; buffers are kept.
template <class Value>
struct Forms {
  std::vector<const InputForm*> forms;
  std::vector<Value> values;

  /// Which value is in that form; `make(value)` where none is yet.
  template <class Make>
  std::size_t find(const InputForm& form, const Make& make) {
    const auto found = std::ranges::find_if(forms, [&](auto* f) { return *f == form; });
    const auto at = static_cast<std::size_t>(found - forms.begin());
    if (found != forms.end()) return at;
    forms.push_back(&form);
    if (values.size() <= at) values.emplace_back();
    make(values[at]);
    return at;
  }
};

}  // namespace squish::kernels
