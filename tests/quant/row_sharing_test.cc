// Ranks that encode one matrix together have the bytes of one process.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/base/thread_team.h"
#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

void expect_same_on_ranks(const Matrix& w, const std::string& text, const InputMoments& moments) {
  const Packed alone = encode(w, text, moments, 2);
  const Spec spec = Spec::parse(text);
  for (const int ranks : {2, 5}) {
    test::on_ranks(ranks, [&](Team& team) {
      ThreadPool pool(1 + team.rank() % 2);
      const auto prepared = prepare(moments, spec, pool, 1, "test input");
      const Packed together = quantize(
          w, spec,
          {.pool = pool, .seed = 1, .key = "test", .prepared = prepared.get(), .team = &team});
      EXPECT_TRUE(same_bytes(alone, together))
          << text << ", rank " << team.rank() << " of " << ranks;
    });
  }
}

TEST(RowSharing, OfEveryMethodGivesTheBytesOfOneProcess) {
  const InputMoments moments = correlated(72);
  for (const std::size_t rows : {40u, 203u, 600u}) {
    const Matrix w = gaussian(rows, 72, 1);
    for (const Method& method : methods()) {
      if (method.prepare == nullptr) continue;
      expect_same_on_ranks(w, method.name, moments);
    }
  }
}

TEST(RowSharing, OfEveryFormGivesTheBytesOfOneProcess) {
  const InputMoments moments = correlated(72);
  const Matrix w = gaussian(330, 72, 2);
  for (const char* spec : {"int3:order=none,clip=mse,sweeps=2", "int2:clip=mse,scale=f16",
                           "quip:bits=3", "quip:bits=4", "trellis:bits=2.5,code=fast,sweeps=1",
                           "trellis:bits=5,code=fast", "trellis:form=tiles,bits=1",
                           "vptq:v=6,k=16,r=4,sweeps=2", "vptq:v=4,k=16,outliers=10,ov=2,ok=16"}) {
    expect_same_on_ranks(w, spec, moments);
  }
  // Whose last stream is padded: to the least that a ring can be.
  expect_same_on_ranks(gaussian(40, 72, 2), "trellis:bits=1,code=fast", moments);
  expect_same_on_ranks(gaussian(16552, 8, 2), "trellis:bits=1,code=fast", correlated(8));
}

}  // namespace
}  // namespace squish::quant
