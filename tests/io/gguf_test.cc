#include "squish/io/gguf.h"

#include <gmock/gmock.h>

#include <limits>

#include "tests/io/writers.h"

namespace squish::io {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string read_error(const std::string& content) {
  const TemporaryDirectory directory;
  const auto path = directory.write("t.gguf", content);
  return error_of([&] { read_gguf(path); });
}

/// Metadata of every type and two tensors whose data fill whole alignment units.
GgufWriter small_file() {
  GgufWriter writer;
  writer.text("general.architecture", "llama")
      .pair("u8", kU8, raw<std::uint8_t>(200))
      .pair("i8", kI8, raw<std::int8_t>(-100))
      .pair("u16", kU16, raw<std::uint16_t>(60000))
      .pair("i16", kI16, raw<std::int16_t>(-30000))
      .u32("u32", 4000000000u)
      .pair("i32", kI32, raw<std::int32_t>(-2000000000))
      .pair("u64", kU64, raw(std::uint64_t{1} << 63))
      .pair("i64", kI64, raw(std::numeric_limits<std::int64_t>::min()))
      .f32("f32", 0.1f)
      .pair("f64", kF64, raw(0.1))
      .pair("yes", kBool, raw<std::uint8_t>(1))
      .array("integers", kI32, 2, raw<std::int32_t>(-1) + raw<std::int32_t>(7))
      .array("reals", kF32, 2, raw(0.5f) + raw(-2.0f))
      .array("flags", kBool, 2, std::string("\1\0", 2))
      .array("texts", kString, 2, gguf_string("") + gguf_string("\xc4\xa0t"))
      .array("none", kString, 0, "")
      .tensor("a", {4, 2}, 0, floats_as_bytes({0, 1, 2, 3, 4, 5, 6, 7}))
      .tensor("b", {32, 1, 3}, 8, std::string(3 * 34 + 26, '\0'));
  return writer;
}

TEST(Gguf, ReadsEveryMetadataType) {
  const TemporaryDirectory directory;
  for (const std::uint32_t version : {2u, 3u}) {
    GgufWriter writer = small_file();
    writer.version = version;
    const GgufFile file = read_gguf(directory.write("t.gguf", writer.build()));
    EXPECT_EQ(file.text_at("general.architecture"), "llama");
    EXPECT_EQ(file.unsigned_at("u8"), 200u);
    EXPECT_EQ(std::get<std::int64_t>(file.metadata.at("i8")), -100);
    EXPECT_EQ(file.unsigned_at("u16"), 60000u);
    EXPECT_EQ(std::get<std::int64_t>(file.metadata.at("i16")), -30000);
    EXPECT_EQ(file.unsigned_at("u32"), 4000000000u);
    EXPECT_EQ(std::get<std::int64_t>(file.metadata.at("i32")), -2000000000);
    EXPECT_EQ(file.unsigned_at("u64"), std::uint64_t{1} << 63);
    EXPECT_EQ(std::get<std::int64_t>(file.metadata.at("i64")),
              std::numeric_limits<std::int64_t>::min());
    EXPECT_EQ(file.real_or("f32", 0), double{0.1f});
    EXPECT_EQ(file.real_or("f64", 0), 0.1);
    EXPECT_TRUE(file.flag_or("yes", false));
    EXPECT_THAT(*file.integers("integers"), ElementsAre(-1, 7));
    EXPECT_THAT(*file.reals("reals"), ElementsAre(0.5, -2));
    EXPECT_THAT(std::get<std::vector<bool>>(file.metadata.at("flags")), ElementsAre(true, false));
    EXPECT_THAT(*file.texts("texts"), ElementsAre("", "\xc4\xa0t"));
    EXPECT_TRUE(file.texts("none")->empty());
  }
}

TEST(Gguf, LookUpsFallBackOrNameTheKey) {
  const TemporaryDirectory directory;
  const GgufFile file = read_gguf(directory.write("t.gguf", small_file().build()));
  EXPECT_EQ(file.unsigned_or("missing", 5), 5u);
  EXPECT_EQ(file.text_or("missing", "x"), "x");
  EXPECT_EQ(file.texts("missing"), nullptr);
  EXPECT_THAT(error_of([&] { file.unsigned_at("missing"); }), HasSubstr("lack 'missing'"));
  EXPECT_THAT(error_of([&] { file.unsigned_or("f32", 5); }),
              HasSubstr("'f32' is a real number, expected an unsigned integer"));
  EXPECT_THAT(error_of([&] { file.texts("reals"); }), HasSubstr("expected an array of strings"));
}

TEST(Gguf, ShapesAreOutermostFirstAndBytesAreInPlace) {
  const TemporaryDirectory directory;
  const GgufFile file = read_gguf(directory.write("t.gguf", small_file().build()));
  const Tensor& a = file.table.at("a");
  EXPECT_THAT(a.shape, ElementsAre(2, 4));
  ThreadPool pool(1);
  EXPECT_EQ(read_matrix(a, pool)(1, 2), 6.0f);
  const Tensor& b = file.table.at("b");
  EXPECT_THAT(b.shape, ElementsAre(3, 1, 32));
  EXPECT_EQ(b.type, DType::Q8_0);
  EXPECT_EQ(b.bytes.size(), 3u * 34);
}

TEST(Gguf, AlignmentOfTheMetadataIsFollowed) {
  const TemporaryDirectory directory;
  GgufWriter writer;
  writer.alignment = 256;
  writer.u32("general.alignment", 256)
      .tensor("a", {1}, 0, floats_as_bytes({1}))
      .tensor("b", {1}, 0, floats_as_bytes({2}));
  const GgufFile file = read_gguf(directory.write("t.gguf", writer.build()));
  ThreadPool pool(1);
  EXPECT_EQ(read_matrix(file.table.at("b"), pool)(0, 0), 2.0f);
}

TEST(GgufHostile, TruncationAtEveryByteIsAnError) {
  const std::string whole = small_file().build();
  const std::size_t data_end = whole.size() - 26;  // what pads the last tensor may be missing
  const TemporaryDirectory directory;
  for (std::size_t size = 0; size < data_end; ++size) {
    const auto path = directory.write("t.gguf", whole.substr(0, size));
    ASSERT_NE(error_of([&] { read_gguf(path); }), "no error") << size;
  }
  EXPECT_EQ(read_error(whole.substr(0, data_end)), "no error");
}

TEST(GgufHostile, AnyByteMayBeWrong) {
  const std::string whole = small_file().build();
  const TemporaryDirectory directory;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const char byte : {'\0', '\x7f', '\xff'}) {
      std::string broken = whole;
      broken[i] = byte;
      const auto path = directory.write("t.gguf", broken);
      error_of([&] { read_gguf(path); });  // an Error or a file: no crash, no other exception
    }
  }
}

TEST(GgufHostile, WrongMagicAndVersions) {
  GgufWriter writer = small_file();
  writer.magic = "GGML";
  EXPECT_THAT(read_error(writer.build()), HasSubstr("not a GGUF file"));
  writer = small_file();
  for (const std::uint32_t version : {0u, 1u, 4u, 0x03000000u}) {
    writer.version = version;
    EXPECT_THAT(read_error(writer.build()), HasSubstr("expected 2 or 3")) << version;
  }
}

TEST(GgufHostile, CountsBeyondTheFile) {
  for (const std::uint64_t count :
       {std::uint64_t{64}, std::uint64_t{1} << 31, std::uint64_t{1} << 60,
        (std::uint64_t{1} << 63) - 1, ~std::uint64_t{0} - 64}) {
    GgufWriter writer = small_file();
    writer.extra_tensors = count;
    EXPECT_NE(read_error(writer.build()), "no error") << count;
    writer = small_file();
    writer.extra_pairs = count;
    EXPECT_NE(read_error(writer.build()), "no error") << count;
    for (const GgufType type : {kU8, kI16, kF32, kBool, kString, kU64, kF64}) {
      GgufWriter array;
      array.array("long", type, count, "");
      EXPECT_THAT(read_error(array.build()), HasSubstr("truncated")) << count << " of " << type;
    }
    GgufWriter text;
    text.pair("text", kString, raw(count));
    EXPECT_THAT(read_error(text.build()), HasSubstr("truncated")) << count;
  }
}

TEST(GgufHostile, UnknownTypes) {
  GgufWriter writer;
  writer.pair("k", static_cast<GgufType>(13), "");
  EXPECT_THAT(read_error(writer.build()), HasSubstr("'k' is of the unknown type 13"));
  writer = {};
  writer.array("k", static_cast<GgufType>(99), 1, "");
  EXPECT_THAT(read_error(writer.build()), HasSubstr("unknown type 99"));
  writer = {};
  writer.array("k", kArray, 1, "");
  EXPECT_THAT(read_error(writer.build()), HasSubstr("array of arrays"));
  writer = {};
  writer.tensor("t", {256}, 23, std::string(136, 'x'));
  EXPECT_THAT(read_error(writer.build()), HasSubstr("tensor 't' is of GGML type 23; expected F32"));
}

TEST(GgufHostile, ImpossibleShapes) {
  const auto error = [](const std::vector<std::uint64_t>& shape, std::uint32_t type = 0) {
    GgufWriter writer;
    writer.tensor("t", shape, type, std::string(64, 'x'));
    return read_error(writer.build());
  };
  const std::uint64_t big = std::uint64_t{1} << 32;
  EXPECT_THAT(error({}), HasSubstr("0 dimensions"));
  EXPECT_THAT(error({1, 1, 1, 1, 1}), HasSubstr("5 dimensions"));
  EXPECT_THAT(error({0, 4}), HasSubstr("impossible shape"));
  EXPECT_THAT(error({big, big}), HasSubstr("impossible shape"));
  EXPECT_THAT(error({big, big, big, 4}), HasSubstr("impossible shape"));
  EXPECT_THAT(error({(std::uint64_t{1} << 62) + 1, 4}), HasSubstr("impossible shape"));
  EXPECT_THAT(error({std::uint64_t{1} << 50}), HasSubstr("within tensor 't'"));
  EXPECT_THAT(error({33}, 2), HasSubstr("rows of 33 elements, expected a multiple of 32 for Q4_0"));
  EXPECT_THAT(error({128, 2}, 12), HasSubstr("multiple of 256 for Q4_K"));
}

TEST(GgufHostile, TensorsThatOverlapOrLeaveGaps) {
  const std::string four = floats_as_bytes({1, 2, 3, 4});
  for (const std::uint64_t offset :
       {std::uint64_t{0}, std::uint64_t{16}, std::uint64_t{64}, ~std::uint64_t{0} - 31}) {
    GgufWriter writer;
    writer.tensor("a", {4}, 0, four).tensor_at("b", {4}, 0, offset, four);
    EXPECT_THAT(read_error(writer.build()), HasSubstr("tensor 'b' lies at offset")) << offset;
  }
}

TEST(GgufHostile, RepeatedNames) {
  GgufWriter writer;
  writer.u32("k", 1).f32("k", 2);
  EXPECT_THAT(read_error(writer.build()), HasSubstr("'k' occurs twice"));
  writer = {};
  writer.tensor("t", {8}, 0, std::string(32, 'x')).tensor("t", {8}, 0, std::string(32, 'x'));
  EXPECT_THAT(read_error(writer.build()), HasSubstr("'t' occurs twice"));
}

TEST(GgufHostile, AlignmentThatIsNoPowerOfTwo) {
  for (const std::uint32_t alignment : {0u, 3u, 48u, 0x80000000u}) {
    GgufWriter writer;
    writer.u32("general.alignment", alignment);
    EXPECT_THAT(read_error(writer.build()), HasSubstr("expected a power of two")) << alignment;
  }
}

TEST(GgufHostile, IntegersThatDoNotFit) {
  GgufWriter writer;
  writer.array("k", kU64, 1, raw(~std::uint64_t{0}));
  EXPECT_THAT(read_error(writer.build()), HasSubstr("beyond 63 bits"));
}

}  // namespace
}  // namespace squish::io
