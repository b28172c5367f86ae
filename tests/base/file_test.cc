#include "squish/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <functional>
#include <optional>

#include "squish/base/error.h"
#include "tests/io/writers.h"

namespace squish {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  std::string error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  io::testing::TemporaryDirectory directory_;
  const fs::path& folder_ = directory_.path();
};

TEST_F(FileTest, WritesReadsAndReplaces) {
  const fs::path path = folder_ / "deep" / "result.json";
  write_atomically(path, "first");
  EXPECT_EQ(read_text(path, 100), "first");
  write_atomically(path, std::string(100000, 'x'));
  EXPECT_EQ(read_text(path, 100000).size(), 100000u);
  EXPECT_EQ(std::distance(fs::directory_iterator(path.parent_path()), {}), 1) << "left-overs";
}

TEST_F(FileTest, FailedWriteKeepsTheOldFileAndLeavesNothing) {
  // The name is taken by a folder that is not empty: the rename at the end must fail.
  const fs::path path = folder_ / "taken";
  fs::create_directories(path / "inside");
  EXPECT_THAT(error_of([&] { write_atomically(path, "text"); }), HasSubstr(path.string()));
  EXPECT_TRUE(fs::is_directory(path / "inside"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "left-overs";
}

TEST_F(FileTest, OnlyRegularFilesAreReplacedAndLinksAreFollowed) {
  const fs::path fifo = folder_ / "fifo", link = folder_ / "link", target = folder_ / "new/target";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(error_of([&] { write_atomically(fifo, "text"); }), HasSubstr("regular file"));
  EXPECT_THAT(error_of([&] { check_writable("/dev/null"); }), HasSubstr("regular file"));
  EXPECT_TRUE(fs::is_fifo(fifo));
  EXPECT_THROW(check_writable(""), UsageError);

  fs::create_symlink("new/target", link);
  write_atomically(link, "through");
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(read_text(target, 100), "through");
}

TEST_F(FileTest, TheCheckLeavesNothingBehind) {
  EXPECT_EQ(error_of([&] { check_writable(folder_ / "deep" / "er" / "result"); }), "");
  EXPECT_TRUE(fs::is_empty(folder_));
  write_atomically(folder_ / "file", "");
  EXPECT_THAT(error_of([&] { check_writable(folder_ / "file" / "result"); }),
              HasSubstr("Not a directory"));
}

TEST_F(FileTest, NothingIsWrittenOnceWhatIsReadWasWrittenTo) {
  const fs::path source = folder_ / "source", result = folder_ / "result";
  write_atomically(source, "weights");
  std::optional<MappedFile> mapped(source);
  write_atomically(result, "first");
  std::ofstream(source, std::ios::app) << "!";
  EXPECT_THAT(error_of([&] { write_atomically(result, "second"); }),
              AllOf(HasSubstr(source.string()), HasSubstr("written to")));
  mapped.reset();
  EXPECT_EQ(read_text(result, 100), "first");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 2) << "left-overs";
}

TEST_F(FileTest, ErrorsNameTheFileAndTheCause) {
  const fs::path missing = folder_ / "missing";
  EXPECT_THAT(error_of([&] { read_text(missing, 9); }),
              AllOf(HasSubstr(missing.string()), HasSubstr("No such file")));
  write_atomically(folder_ / "long", "0123456789");
  EXPECT_THAT(error_of([&] { read_text(folder_ / "long", 9); }), HasSubstr("at most 9"));
}

TEST_F(FileTest, EmptyFileHoldsNothing) {
  write_atomically(folder_ / "empty", "");
  EXPECT_EQ(read_text(folder_ / "empty", 0), "");
}

TEST_F(FileTest, ALockKeepsOthersOutWhileItLives) {
  fs::create_directories(folder_);
  for (const fs::path& path : {folder_ / "made", folder_}) {
    {
      FileLock first(path), second(path);
      EXPECT_TRUE(first.take(false));
      EXPECT_FALSE(second.take(false));
      EXPECT_EQ(errno, EWOULDBLOCK);
      const FileLock moved = std::move(first);
      EXPECT_FALSE(second.take(false));
    }
    FileLock third(path);
    EXPECT_TRUE(third.take(true));
  }
  EXPECT_TRUE(fs::is_regular_file(folder_ / "made"));
  FileLock nowhere(folder_ / "missing" / "file");
  EXPECT_FALSE(nowhere.is_open());
  EXPECT_FALSE(nowhere.take(true));
}

TEST(ShortDigest, IsTheBeginningOfADigest) {
  const std::string digest = short_digest(sha256("abc"));
  EXPECT_EQ(digest, "ba7816bf8f01cfea");
  EXPECT_TRUE(is_short_digest(digest));
  for (const char* other : {"", "ba7816bf8f01cfe", "ba7816bf8f01cfeab", "Ba7816bf8f01cfea"}) {
    EXPECT_FALSE(is_short_digest(other)) << other;
  }
}

TEST(Sha256, MatchesPublishedVectors) {  // FIPS 180-2, appendix B
  EXPECT_EQ(sha256(std::string_view("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(std::string_view("")),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace squish
