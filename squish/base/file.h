#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "squish/base/mapped_file.h"

namespace squish {

/// The whole file as text; fails if it is larger than `limit` bytes.
std::string read_text(const std::filesystem::path& path, std::size_t limit);

/// Writes the whole file or nothing: a temporary name beside it, synced, renamed over `path`.
/// Creates missing parent directories, follows symbolic links, and refuses to replace what is not a
/// regular file. On failure the old file, if any, is untouched; that a mapped file was written to
/// meanwhile (check_mapped_files()) is one.
void write_atomically(const std::filesystem::path& path, std::string_view content);
/// The same for content in pieces, one after the other: what lies in many places needs no copy.
void write_atomically(const std::filesystem::path& path, std::span<const std::string_view> pieces);

/// All of it, in as many calls as it takes; false: errno says why not.
bool write_all(int fd, std::string_view content);

/// Error if write_atomically() to `path` would fail from the start: for a check before long work.
/// Leaves nothing behind.
void check_writable(const std::filesystem::path& path);

/// Keeps others that lock the same path out for as long as it lives; the kernel lets go of it when
/// the process dies.
class FileLock {
 public:
  /// Opens a file (made if it is missing) or a directory; nobody is kept out yet.
  explicit FileLock(const std::filesystem::path& path);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

  bool is_open() const { return fd_ >= 0; }  ///< errno says why not
  /// Waits where others hold it, or not; whether it is held now. errno is EWOULDBLOCK where others
  /// do.
  bool take(bool wait);

 private:
  int fd_;
};

/// Where a file system locks no directories this file in it is locked; it stays.
inline constexpr const char* kLockFile = ".squish.lock";
/// Keeps other jobs off a directory, or has this one `wait` for them. Error if it is none, or
/// another has it. Nobody is kept off where the file system knows no locks.
FileLock lock_directory(const std::filesystem::path& directory, bool wait = false);

/// ${XDG_CACHE_HOME:-~/.cache}/squish, which may not exist.
std::filesystem::path user_cache();

/// Lower-case hexadecimal SHA-256.
std::string sha256(std::span<const std::byte> bytes);
std::string sha256(std::string_view text);
/// The first 16 digits of a digest, a folder's name; whether a name is such.
std::string short_digest(const std::string& sha256);
bool is_short_digest(std::string_view name);

}  // namespace squish
