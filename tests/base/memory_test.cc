#include "squish/base/memory.h"

#include <gtest/gtest.h>

#include <vector>

namespace squish {
namespace {

constexpr std::size_t kBytes = std::size_t{64} << 20;

TEST(Memory, ThePeakSeesWhatIsTouchedAndLetGo) {
  reset_peak_rss();
  const std::size_t before = peak_rss_bytes();
  { const std::vector<char> touched(kBytes, 1); }
  EXPECT_GE(peak_rss_bytes(), before + kBytes / 2);
}

TEST(Memory, AnonymousIsWhatIsHeldNow) {
  const std::size_t before = anonymous_memory();
  const std::vector<char> touched(kBytes, 1);
  EXPECT_GE(anonymous_memory(), before + kBytes / 2);
}

}  // namespace
}  // namespace squish
