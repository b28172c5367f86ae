#include "squish/io/safetensors.h"

#include <gmock/gmock.h>

#include "tests/io/writers.h"

namespace squish::io {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string read_error(const std::string& content) {
  const TemporaryDirectory directory;
  const auto path = directory.write("t.safetensors", content);
  return error_of([&] {
    TensorTable table;
    read_safetensors(path, table);
  });
}

SafetensorsWriter small_file() {
  SafetensorsWriter writer;
  writer.header["__metadata__"] = {{"format", "pt"}};
  // Names in another order than the data.
  writer.tensor("z", {2, 2}, floats_as_bytes({1, 2, 3, 4}))
      .tensor("half", {3}, std::string("\x00\x3c\x00\xc0\x00\x00", 6), "F16")
      .tensor("empty", {0, 5}, "")
      .tensor("brain", {1}, std::string("\x80\x3f", 2), "BF16")
      .tensor("scalar", {}, floats_as_bytes({7}));
  return writer;
}

TEST(Safetensors, ReadsEveryFloatType) {
  const TemporaryDirectory directory;
  TensorTable table;
  read_safetensors(directory.write("t.safetensors", small_file().build()), table);
  EXPECT_EQ(table.tensors.size(), 5u);
  ThreadPool pool(1);
  EXPECT_THAT(table.at("z").shape, ElementsAre(2, 2));
  EXPECT_EQ(read_matrix(table.at("z"), pool)(1, 0), 3.0f);
  EXPECT_EQ(read_matrix(table.at("half"), pool)(0, 1), -2.0f);
  EXPECT_EQ(read_matrix(table.at("brain"), pool)(0, 0), 1.0f);
  EXPECT_EQ(read_matrix(table.at("scalar"), pool)(0, 0), 7.0f);
  EXPECT_EQ(table.at("empty").elements(), 0u);
}

TEST(Safetensors, OfThisTypeAndShape) {
  const TemporaryDirectory directory;
  TensorTable table;
  read_safetensors(directory.write("t.safetensors", small_file().build()), table);
  EXPECT_EQ(&table.at("z", DType::F32, {2, 2}), &table.at("z"));
  for (const auto& [type, shape] : {std::pair{DType::F16, std::vector<std::size_t>{2, 2}},
                                    {DType::F32, {2, 3}},
                                    {DType::F32, {4}}}) {
    EXPECT_THAT(error_of([&, type = type, shape = shape] { table.at("z", type, shape); }),
                AllOf(HasSubstr("t.safetensors: tensor 'z' must have dtype"),
                      HasSubstr(std::string(to_string(type)) + " and shape")));
  }
  EXPECT_THAT(error_of([&] {
                table.at("y", DType::F32, {2, 2});
              }),
              HasSubstr("t.safetensors: there is no tensor 'y'"));
}

TEST(Safetensors, SumsInTheMetadata) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "t.safetensors";
  const std::vector<float> values = {1, 2};
  const auto bytes = std::as_bytes(std::span(values));
  write_safetensors(path,
                    std::vector<StoredTensor>{{"known", DType::F32, {2}, bytes},
                                              {"unknown", DType::F32, {2}, bytes},
                                              {"wrong", DType::F32, {2}, bytes}},
                    {{"known", sha256(bytes)}, {"wrong", sha256("x")}});
  const SafetensorsFile file = read_safetensors_file(path);
  EXPECT_EQ(file.text("known"), sha256(bytes));
  EXPECT_EQ(file.text("unknown"), "");
  file.check_sum(file.table.at("known"));
  for (const char* const name : {"unknown", "wrong"}) {
    EXPECT_THAT(error_of([&] { file.check_sum(file.table.at(name)); }),
                HasSubstr("t.safetensors: " + std::string(name)));
  }
}

TEST(SafetensorsHostile, TruncationAtEveryByteIsAnError) {
  const std::string whole = small_file().build();
  const TemporaryDirectory directory;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto path = directory.write("t", whole.substr(0, size));
    TensorTable table;
    ASSERT_NE(error_of([&] { read_safetensors(path, table); }), "no error") << size;
  }
  EXPECT_THAT(read_error(whole + "x"), HasSubstr("but the tensors end at"));
}

TEST(SafetensorsHostile, AnyByteMayBeWrong) {
  const std::string whole = small_file().build();
  const TemporaryDirectory directory;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const char byte : {'\0', '\x7f', '\xff', '"', '9', '}'}) {
      std::string broken = whole;
      broken[i] = byte;
      const auto path = directory.write("t", broken);
      TensorTable table;
      error_of([&] { read_safetensors(path, table); });  // no crash, no other exception
    }
  }
}

TEST(SafetensorsHostile, HeaderLengths) {
  for (const std::uint64_t length :
       {std::uint64_t{3}, std::uint64_t{100'000'001}, (std::uint64_t{1} << 63) - 1,
        ~std::uint64_t{0} - 7, ~std::uint64_t{0}}) {
    EXPECT_THAT(read_error(raw(length) + "{}"), HasSubstr("a header of")) << length;
  }
}

TEST(SafetensorsHostile, HeadersThatAreNotWhatTheyShould) {
  const auto error = [](const std::string& header) {
    return read_error(safetensors_bytes(header, "1234"));
  };
  const std::string range = R"("data_offsets":[0,4])";
  EXPECT_THAT(error(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(error("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(error("{\"a\xff\":1}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error(std::string(1000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(error(R"({"a":7})"), HasSubstr("'a': expected an object"));
  EXPECT_THAT(error(R"({"__metadata__":{"a":1}})"), HasSubstr("__metadata__"));
  EXPECT_THAT(error(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                    R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})"),
              HasSubstr("'a' twice"));
  EXPECT_THAT(error(R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})"),
              HasSubstr("'dtype' twice"));
  EXPECT_THAT(error(R"({"a":{"shape":[1],)" + range + "}}"), HasSubstr("dtype (missing)"));
  EXPECT_THAT(error(R"({"a":{"dtype":"I32","shape":[1],)" + range + "}}"),
              HasSubstr("dtype I32, expected F32, F16 or BF16"));
  EXPECT_THAT(error(R"({"a":{"dtype":"F32",)" + range + "}}"), HasSubstr("an array 'shape'"));
  for (const char* size : {"-1", "1.5", "\"1\"", "1e999", "null", "18446744073709551616"}) {
    EXPECT_NE(error(fmt::format(R"({{"a":{{"dtype":"F32","shape":[{}],{}}}}})", size, range)),
              "no error")
        << size;
  }
}

TEST(SafetensorsHostile, ShapesThatOverflow) {
  const auto error = [](const std::string& shape) {
    return read_error(safetensors_bytes(
        R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,4]}})", "1234"));
  };
  EXPECT_EQ(error("[1]"), "no error");
  EXPECT_THAT(error("[2]"), HasSubstr("4 bytes of data, expected 8"));
  // (2^62 + 1) * 4 is 4 modulo 2^64.
  EXPECT_THAT(error("[4611686018427387905]"), HasSubstr("overflows"));
  EXPECT_THAT(error("[4294967296,4294967296]"), HasSubstr("overflows"));
  EXPECT_THAT(error("[0,18446744073709551615,18446744073709551615]"), HasSubstr("overflows"));
}

TEST(SafetensorsHostile, RangesMustTileTheData) {
  const auto error = [](const std::string& a, const std::string& b) {
    const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":)";
    return read_error(
        safetensors_bytes(R"({"a":)" + entry + a + R"(},"b":)" + entry + b + "}}", "12345678"));
  };
  EXPECT_EQ(error("[4,8]", "[0,4]"), "no error");
  EXPECT_THAT(error("[0,4]", "[0,4]"), HasSubstr("expected 4"));         // overlap
  EXPECT_THAT(error("[0,4]", "[2,6]"), HasSubstr("begins at byte 2"));   // overlap
  EXPECT_THAT(error("[0,4]", "[5,9]"), HasSubstr("begins at byte 5"));   // gap
  EXPECT_THAT(error("[4,8]", "[8,12]"), HasSubstr("begins at byte 4"));  // gap at the start
  EXPECT_THAT(error("[0,4]", "[8,4]"), HasSubstr("a begin and an end"));
  EXPECT_THAT(error("[0,4]", "[4]"), HasSubstr("a begin and an end"));
  EXPECT_THAT(error("[0,4]", "[9223372036854775804,9223372036854775808]"),
              HasSubstr("begins at byte"));
}

/// A directory of two shards: a in the first, b in the second.
struct Shards {
  TemporaryDirectory directory;
  nlohmann::json index = {{"weight_map", {{"a", "1.safetensors"}, {"b", "2.safetensors"}}}};

  Shards() {
    directory.write("1.safetensors",
                    SafetensorsWriter().tensor("a", {1}, floats_as_bytes({1})).build());
    directory.write("2.safetensors",
                    SafetensorsWriter().tensor("b", {1}, floats_as_bytes({2})).build());
  }
  std::string error() const {
    directory.write("model.safetensors.index.json", index.dump());
    return error_of([&] { read_safetensors_directory(directory.path()); });
  }
};

TEST(SafetensorsDirectory, ReadsShards) {
  const Shards shards;
  ASSERT_EQ(shards.error(), "no error");
  const TensorTable table = read_safetensors_directory(shards.directory.path());
  ThreadPool pool(1);
  EXPECT_EQ(read_matrix(table.at("a"), pool)(0, 0), 1.0f);
  EXPECT_EQ(read_matrix(table.at("b"), pool)(0, 0), 2.0f);
  EXPECT_EQ(table.files.size(), 2u);
}

TEST(SafetensorsDirectory, ReadsASingleFileWhereThereIsNoIndex) {
  const TemporaryDirectory directory;
  EXPECT_THAT(error_of([&] { read_safetensors_directory(directory.path()); }),
              HasSubstr("neither model.safetensors nor"));
  directory.write("model.safetensors", small_file().build());
  EXPECT_TRUE(read_safetensors_directory(directory.path()).contains("half"));
}

TEST(SafetensorsDirectory, ShardNamesStayInTheDirectory) {
  for (const char* name : {"../1.safetensors", "/etc/passwd", "sub/1.safetensors", "..", ".", ""}) {
    Shards shards;
    shards.index["weight_map"]["a"] = name;
    EXPECT_THAT(shards.error(), HasSubstr("must be in a file of this directory")) << name;
  }
  Shards shards;
  shards.index["weight_map"]["a"] = std::string("1.safetensors\0x", 15);
  EXPECT_THAT(shards.error(), HasSubstr("must be in a file of this directory"));
  shards.index["weight_map"]["a"] = 7;
  EXPECT_THAT(shards.error(), HasSubstr("must be in a file of this directory"));
}

TEST(SafetensorsDirectory, BrokenIndexes) {
  Shards shards;
  shards.index["weight_map"]["a"] = "3.safetensors";
  EXPECT_THAT(shards.error(), HasSubstr("3.safetensors: cannot be opened"));
  shards.index["weight_map"] = {{"a", "1.safetensors"}, {"c", "2.safetensors"}};
  EXPECT_THAT(shards.error(), HasSubstr("tensor 'c' is not in 2.safetensors"));
  shards.index = {{"weight_map", 1}};
  EXPECT_THAT(shards.error(), HasSubstr("expected an object 'weight_map'"));
  shards.index = {1};
  EXPECT_THAT(shards.error(), HasSubstr("expected an object 'weight_map'"));

  Shards twice;
  twice.directory.write("2.safetensors",
                        SafetensorsWriter().tensor("a", {1}, floats_as_bytes({1})).build());
  EXPECT_THAT(twice.error(), HasSubstr("tensor 'a' is in two files"));
}

}  // namespace
}  // namespace squish::io
