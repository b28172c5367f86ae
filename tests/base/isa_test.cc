#include "squish/base/isa.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "squish/base/error.h"

namespace squish {
namespace {

TEST(Isa, NamesRoundTrip) {
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512vbmi}) {
    EXPECT_EQ(parse_isa(to_string(isa)), isa);
  }
  EXPECT_THROW(parse_isa("sse9"), UsageError);
}

TEST(Isa, ForcedOneIsTheOneThatRuns) {
  const Isa before = active_isa();
  const int tables[] = {0, 1, 2, 3};
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    EXPECT_EQ(active_isa(), isa);
    EXPECT_EQ(choose(tables[0], tables[1], tables[2], tables[3]), static_cast<int>(isa));
    EXPECT_EQ(choose(tables[0], tables[1], tables[2]), std::min(2, static_cast<int>(isa)));
    EXPECT_EQ(backend_name(), "cpp-" + std::string(to_string(isa)));
  }
  set_isa(before);
}

TEST(Isa, WhatTheCpuLacksIsRefused) {
  const auto available = available_isas();
  EXPECT_EQ(available.front(), Isa::scalar);
  for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::avx512vbmi}) {
    if (std::find(available.begin(), available.end(), isa) == available.end()) {
      EXPECT_THROW(set_isa(isa), UsageError);
    }
  }
}

}  // namespace
}  // namespace squish
