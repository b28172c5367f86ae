#include "squish/base/text.h"

#include <gtest/gtest.h>

namespace squish {
namespace {

TEST(Printable, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(printable("a\n\x1b[2J\x7f"), "a\\x0a\\x1b[2J\\x7f");
  EXPECT_EQ(printable("\xC2\x9B"
                      "2J\xC2\x80\xC2\x9F"),
            "\\xc2\\x9b2J\\xc2\\x80\\xc2\\x9f");
  EXPECT_EQ(printable("\xC2\xA0\xC2"), "\xC2\xA0\xC2");
  EXPECT_EQ(printable("Größe 2²"), "Größe 2²");
}

}  // namespace
}  // namespace squish
