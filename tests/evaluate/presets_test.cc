#include "squish/evaluate/presets.h"

#include <gmock/gmock.h>

#include "squish/base/error.h"

namespace squish::evaluate {
namespace {

std::vector<std::string> asked(const std::vector<quant::Spec>& specs) {
  std::vector<std::string> texts;
  for (const quant::Spec& spec : specs) texts.push_back(spec.asked());
  return texts;
}

// metrics.md, 'Specs'.
TEST(Presets, AreTheTableOfTheContract) {
  const std::vector<std::string> fast = {"int4:sym=0,g=64",     "int4:sym=0,g=64,clip=mse",
                                         "int4:sym=1,g=64",     "vptq:v=8,k=16,r=4",
                                         "vptq:v=8,k=256,r=16", "aqlm:m=2,b=4,g=4",
                                         "quip:form=gain",      "quip:bits=2",
                                         "quip:bits=3",         "quip:bits=4",
                                         "trellis:bits=2",      "trellis:bits=3",
                                         "trellis:bits=4"};
  std::vector<std::string> high_fidelity = fast;
  high_fidelity[5] = "aqlm:m=2,b=8,g=8";
  EXPECT_EQ(asked(preset_specs(Preset::fast)), fast);
  EXPECT_EQ(asked(preset_specs(Preset::high_fidelity)), high_fidelity);
  std::vector<std::string> model = high_fidelity;
  for (std::size_t i = 10; i < model.size(); ++i) model[i] += ",code=fast";
  EXPECT_EQ(asked(model_specs()), model);
  EXPECT_EQ(preset_size(parse_preset("fast")), 64u);
  EXPECT_EQ(preset_size(parse_preset("high-fidelity")), 4096u);
  EXPECT_THROW(parse_preset("slow"), UsageError);
}

TEST(ParseSpecs, SplitsAtSemicolons) {
  EXPECT_THAT(asked(parse_specs("int4")), ::testing::ElementsAre("int4"));
  EXPECT_THAT(asked(parse_specs("int4:g=32,sym=1;int2")),
              ::testing::ElementsAre("int4:g=32,sym=1", "int2"));
  for (const char* const wrong : {"", ";", "int4;", ";int4", "int4;;int4", "int4:g=1;x"}) {
    EXPECT_THROW(parse_specs(wrong), UsageError) << wrong;
  }
}

}  // namespace
}  // namespace squish::evaluate
