#include "squish/io/seal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/io/checkpoint.h"
#include "squish/io/json.h"
#include "tests/io/writers.h"

namespace squish::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class Seal : public ::testing::Test {
 protected:
  Seal() {
    directory_.write("config.json", R"({"vocab_size": 3})");
    directory_.write("model.safetensors", std::string(40, '\0') + "weights");
    directory_.write("squish.log.jsonl", "no part of it");
    directory_.write(kManifestFile,
                     sealed({{"format", "squish"}, {"files", {{"model.safetensors", 1}}}}, path()));
  }
  const std::filesystem::path& path() const { return directory_.path(); }

  testing::TemporaryDirectory directory_;
};

TEST_F(Seal, IsWholeAsItWasMade) {
  EXPECT_TRUE(check_seal(path()));
  directory_.write("squish.log.jsonl", "something else");
  EXPECT_TRUE(check_seal(path()));
}

TEST_F(Seal, IsBrokenByAnyFlippedBit) {
  for (const std::string name : {"config.json", "model.safetensors", "squish.json"}) {
    const std::string whole = read_text(path() / name, 10'000);
    for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
      std::string damaged = whole;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
      directory_.write(name, damaged);
      EXPECT_THAT([&] { check_seal(path()); },
                  ThrowsMessage<Error>(HasSubstr((path() / name).string())))
          << bit;
    }
    directory_.write(name, whole);
  }
  EXPECT_TRUE(check_seal(path()));
}

TEST_F(Seal, MissesAFileThatIsGone) {
  std::filesystem::remove(path() / "config.json");
  EXPECT_THAT([&] { check_seal(path()); },
              ThrowsMessage<Error>(AllOf(HasSubstr("config.json"), HasSubstr("No such file"))));
}

TEST_F(Seal, IsNotAskedOfWhatWasMadeWithoutOne) {
  directory_.write(kManifestFile, R"({"format": "squish"})");
  EXPECT_FALSE(check_seal(path()));
}

TEST_F(Seal, LeadsOutOfNoFolder) {
  directory_.write("stranger", "x");
  nlohmann::json manifest = {{"sums", {{"../stranger", std::string(64, '0')}}}};
  manifest["sha256"] = sha256(to_text(manifest, path()));
  directory_.write(kManifestFile, to_text(manifest, path()));
  EXPECT_THAT([&] { check_seal(path()); },
              ThrowsMessage<Error>(HasSubstr((path() / "stranger").string())));
}

}  // namespace
}  // namespace squish::io
