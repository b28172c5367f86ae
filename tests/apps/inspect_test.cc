#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/apps/run_squish.h"

namespace squish::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kModels = SQUISH_TEST_DATA "/models/";

class Inspect : public Program {
 protected:
  std::string write(const std::string& name, const std::string& content) const {
    const auto path = directory() / name;
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
};

TEST_F(Inspect, PrintsArchitectureTensorsAndTotals) {
  const Outcome outcome = squish({"inspect", kModels + "qwen2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, HasSubstr("architecture  Qwen2ForCausalLM (safetensors)"));
  EXPECT_THAT(outcome.out, HasSubstr("2 of hidden size 32, intermediate size 48"));
  EXPECT_THAT(outcome.out, HasSubstr("48 x 32"));
  EXPECT_THAT(outcome.out, HasSubstr("total     32 bits"));
}

TEST_F(Inspect, JsonHoldsEveryTensor) {
  const Outcome outcome = squish({"inspect", kModels + "qwen3", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json model = json::parse(outcome.out);
  EXPECT_EQ(model["schema"], "squish.inspect/1");
  EXPECT_EQ(model["config"]["family"], "qwen3");
  EXPECT_EQ(model["config"]["tied_embeddings"], true);
  EXPECT_EQ(model["source_quantized"], false);
  EXPECT_FALSE(model.contains("cannot_be_run"));
  std::size_t parameters = 0;
  for (const json& tensor : model["tensors"]) {
    std::size_t elements = 1;
    for (const json& size : tensor["shape"]) elements *= size.get<std::size_t>();
    parameters += elements;
    EXPECT_EQ(tensor["bits"], 16);
  }
  EXPECT_EQ(model["tensors"].size(), 2u + 2u * 11u);
  EXPECT_EQ(model["parameters"], parameters);
  EXPECT_EQ(model["bits_per_parameter"], 16);
}

TEST_F(Inspect, UnknownModelsAreShownAndSayWhyTheyCannotRun) {
  const std::string header = R"({"w":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]}})";
  const std::uint64_t size = header.size();
  const std::string path =
      write("w.safetensors",
            std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + "\1\2\3\4");
  const Outcome text = squish({"inspect", path});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("cannot be run"));
  EXPECT_THAT(text.out, HasSubstr("F16   16      2 x 1"));
  const json model = json::parse(squish({"inspect", path, "--json"}).out);
  EXPECT_TRUE(model.contains("cannot_be_run"));
  EXPECT_FALSE(model.contains("config"));
}

TEST_F(Inspect, FailuresAreOneSentence) {
  const Outcome missing = squish({"inspect", "no-such-model"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_EQ(missing.out, "");
  EXPECT_EQ(missing.err, "squish: no-such-model: cannot be opened: No such file or directory\n");
  const Outcome text = squish({"inspect", write("a.gguf", "hello")});
  EXPECT_EQ(text.code, 1);
  EXPECT_THAT(text.err, HasSubstr("a.gguf: not a GGUF file\n"));
  EXPECT_EQ(squish({"inspect"}).code, 2);
  EXPECT_EQ(squish({"inspect", ""}).code, 2);
}

}  // namespace
}  // namespace squish::test
