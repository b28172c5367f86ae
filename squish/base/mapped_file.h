#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace squish {

/// A file mapped read-only. Copies share the mapping. Errors name the path and the cause.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const void> mapping_;
  std::span<const std::byte> bytes_;
};

/// Asks the system to read these bytes of a mapped file now: they will be wanted soon.
void read_ahead(std::span<const std::byte> mapped);

/// Error if a file that is mapped now has been written to since it was: what was made of it may be
/// of neither state. One that another file took the place of is still what it was.
void check_mapped_files();

/// From here on the program ends with a sentence and `exit_code`, not by SIGBUS, where what it
/// reads of a mapped file is gone: the file was cut short, or its disk fails.
void report_lost_pages(int exit_code);

}  // namespace squish
