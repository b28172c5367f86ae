#pragma once
#include <cstdlib>
#include <string>

#include "squish/kernels/panel.h"

namespace squish::kernels {

/// Several tokens are multiplied by this path for one scope.
class ForcedPanels {
 public:
  explicit ForcedPanels(std::string_view path) {
    setenv("SQUISH_PANELS", std::string(path).c_str(), 1);
  }
  explicit ForcedPanels(PanelPath path) : ForcedPanels(to_string(path)) {}
  ~ForcedPanels() { unsetenv("SQUISH_PANELS"); }
  ForcedPanels(const ForcedPanels&) = delete;
  ForcedPanels& operator=(const ForcedPanels&) = delete;
};

}  // namespace squish::kernels
