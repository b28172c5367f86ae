#include "squish/base/function_ref.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>

namespace squish {
namespace {

int twice(FunctionRef<int(int)> f) { return f(f(1)); }
void call(FunctionRef<void()> f) { f(); }

TEST(FunctionRef, CallsWhatItIsGivenAndNoCopy) {
  int calls = 0;
  auto add = [&calls, left = 5](int x) mutable {
    ++calls;
    return x + left--;
  };
  EXPECT_EQ(twice(add), 1 + 5 + 4);
  EXPECT_EQ(twice(add), 1 + 3 + 2);
  EXPECT_EQ(calls, 4);
  const std::function<int(int)> wrapped = add;
  EXPECT_EQ(twice(wrapped), 1 + 1 + 0);
  EXPECT_EQ(twice([](long x) { return static_cast<short>(x + 7); }), 15);
  call([&] { return ++calls; });  // what it returns is nobody's
  EXPECT_EQ(calls, 7);
}

TEST(FunctionRef, PassesOnWhatCannotBeCopied) {
  const auto take = [](std::unique_ptr<int> p) { return std::make_unique<int>(*p + 1); };
  const FunctionRef<std::unique_ptr<int>(std::unique_ptr<int>)> f = take;
  const auto copy = f;
  EXPECT_EQ(*copy(f(std::make_unique<int>(3))), 5);
}

TEST(FunctionRef, IsOnlyOfWhatCanBeCalled) {
  static_assert(!std::is_constructible_v<FunctionRef<int(int)>, int>);
  static_assert(!std::is_constructible_v<FunctionRef<int()>, decltype([](int) { return 1; })>);
}

}  // namespace
}  // namespace squish
