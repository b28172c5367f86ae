#include "squish/base/text.h"

#include <gtest/gtest.h>

namespace squish {
namespace {

TEST(Printable, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(printable("a\n\x1b[2J\x7f"), "a\\x0a\\x1b[2J\\x7f");
  EXPECT_EQ(printable("Größe 2²"), "Größe 2²");
}

}  // namespace
}  // namespace squish
