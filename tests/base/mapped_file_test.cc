#include "squish/base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <string>

#include "squish/base/error.h"
#include "tests/io/writers.h"

namespace squish {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

class MappedFileTest : public testing::Test {
 protected:
  /// In place: the file stays the same one.
  fs::path write(const char* name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }

  io::testing::TemporaryDirectory directory_;
  const fs::path& folder_ = directory_.path();
};

TEST_F(MappedFileTest, ErrorsNameTheFileAndTheCause) {
  const fs::path missing = folder_ / "missing";
  EXPECT_THAT([&] { MappedFile file(missing); },
              ThrowsMessage<Error>(AllOf(HasSubstr(missing.string()), HasSubstr("No such file"))));
  EXPECT_THAT([&] { MappedFile file(folder_); }, ThrowsMessage<Error>(HasSubstr("regular file")));
}

TEST_F(MappedFileTest, AnEmptyFileMapsToNothing) {
  EXPECT_TRUE(MappedFile(write("empty", "")).bytes().empty());
}

TEST_F(MappedFileTest, TheMappingOutlivesTheObjectItCameFrom) {
  std::optional<MappedFile> first(write("data", "still here"));
  const MappedFile copy = *first;
  first.reset();
  EXPECT_EQ(static_cast<char>(copy.bytes()[0]), 's');
}

TEST_F(MappedFileTest, OneThatIsWrittenToIsNoticedWhileItIsMapped) {
  const fs::path path = write("data", "some text");
  {
    const MappedFile other(write("other", "other text")), mapped(path), twice(path);
    check_mapped_files();
    write("data", "some more text");
    EXPECT_THAT(check_mapped_files,
                ThrowsMessage<Error>(AllOf(HasSubstr(path.string()), HasSubstr("written to"))));
  }
  check_mapped_files();
}

TEST_F(MappedFileTest, OneOfTheSameSizeIsKnownByItsTime) {
  const fs::path path = write("data", "some text");
  const MappedFile mapped(path);
  write("data", "same size");
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(1));
  EXPECT_THAT(check_mapped_files, ThrowsMessage<Error>(HasSubstr("written to")));
}

TEST_F(MappedFileTest, OneThatIsReplacedOrRemovedIsWhatItWas) {
  const fs::path path = write("data", "some text");
  const MappedFile mapped(path);
  fs::rename(write("new", "another text"), path);
  check_mapped_files();
  fs::remove(path);
  check_mapped_files();
  EXPECT_EQ(static_cast<char>(mapped.bytes()[0]), 's');
}

TEST_F(MappedFileTest, OneThatIsCutShortEndsTheProgramWithASentence) {
  const fs::path path = write("data", std::string(100'000, 'x'));
  const auto read_what_is_gone = [&] {
    report_lost_pages(7);
    const MappedFile first(write("other", "other text")), mapped(path);
    fs::resize_file(path, 10);
    const volatile std::byte* const bytes = mapped.bytes().data();
    static_cast<void>(bytes[90'000]);
  };
  EXPECT_EXIT(read_what_is_gone(), testing::ExitedWithCode(7),
              path.filename().string() + ": cannot be read any more: it was cut short");
}

}  // namespace
}  // namespace squish
