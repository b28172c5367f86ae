#include "squish/base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <system_error>
#include <utility>

#include "squish/base/descriptor.h"
#include "squish/base/error.h"

namespace squish {
namespace {

constexpr std::size_t kShortDigest = 16;

/// What a write to `path` replaces: symbolic links are followed. Error unless that is a regular
/// file or nothing yet.
std::filesystem::path resolve_target(const std::filesystem::path& path) {
  constexpr int kMaxLinks = 40;
  if (path.empty()) fail_usage("the name of the file to write is empty");
  std::error_code error;
  std::filesystem::path target = path;
  for (int i = 0; i < kMaxLinks && std::filesystem::is_symlink(target, error); ++i) {
    target = target.parent_path() / std::filesystem::read_symlink(target, error);
  }
  const std::filesystem::file_status status = std::filesystem::status(target, error);
  if (std::filesystem::is_directory(status) || !target.has_filename()) {
    fail("{}: cannot be written: it is a directory", path.string());
  }
  if (std::filesystem::is_regular_file(status) ||
      status.type() == std::filesystem::file_type::not_found) {
    return target;
  }
  if (std::filesystem::exists(status)) {
    fail("{}: cannot be written: expected a regular file or a new one", path.string());
  }
  fail("{}: cannot be written: {}", path.string(), error.message());
}

/// A name for this process's unfinished file in `folder`, which hosts may share.
std::filesystem::path partial_name(const std::filesystem::path& folder,
                                   const std::filesystem::path& name) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return folder / fmt::format("{}.{}.{}.partial", name.string(),
                              std::hash<std::string_view>{}(host.data()), ::getpid());
}

/// A partial file that goes unless it was renamed into place.
struct Unfinished {
  const std::filesystem::path& path;
  bool is_placed = false;
  ~Unfinished() {
    if (!is_placed) ::unlink(path.c_str());
  }
};

}  // namespace

std::string read_text(const std::filesystem::path& path, std::size_t limit) {
  const MappedFile file(path);
  if (file.bytes().size() > limit) {
    fail("{}: {} bytes, expected at most {}", path.string(), file.bytes().size(), limit);
  }
  std::string text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  check_mapped_files();
  return text;
}

bool write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

void write_atomically(const std::filesystem::path& path, std::string_view content) {
  write_atomically(path, {&content, 1});
}

void write_atomically(const std::filesystem::path& path, std::span<const std::string_view> pieces) {
  const std::filesystem::path target = resolve_target(path);
  if (target.has_parent_path()) {
    std::error_code error;
    std::filesystem::create_directories(target.parent_path(), error);
    if (error) fail("{}: cannot be written: {}", path.string(), error.message());
  }
  const std::filesystem::path partial = partial_name(target.parent_path(), target.filename());
  const auto give_up = [&](const char* what) {
    const std::string why = errno_text();
    check_mapped_files();  // one that was cut short is no fault of the output's
    fail("{}: cannot be {}: {}", path.string(), what, why);
  };
  Descriptor file(partial, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file.get() < 0) fail("{}: cannot be written: {}", path.string(), errno_text());
  Unfinished unfinished{partial};
  for (const std::string_view content : pieces) {
    if (!write_all(file.get(), content)) give_up("written");
  }
  if (::fsync(file.get()) != 0) give_up("synced");
  if (file.close() != 0) give_up("closed");
  check_mapped_files();
  if (::rename(partial.c_str(), target.c_str()) != 0) give_up("renamed into place");
  unfinished.is_placed = true;
  // So that the name outlives a power cut too; not every file system can.
  const std::filesystem::path folder = target.parent_path();
  const Descriptor parent(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
  if (parent.get() >= 0) ::fsync(parent.get());
}

void check_writable(const std::filesystem::path& path) {
  const std::filesystem::path target = resolve_target(path);
  std::filesystem::path folder = std::filesystem::absolute(target).parent_path();
  std::error_code error;
  while (folder.has_relative_path() && !std::filesystem::exists(folder, error)) {
    folder = folder.parent_path();
  }
  // Only an attempt tells: a read-only file system, /proc and the like have permissions, too.
  const std::filesystem::path partial = partial_name(folder, target.filename());
  const Descriptor file(partial, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file.get() < 0) fail("{}: cannot be written: {}", path.string(), errno_text());
  ::unlink(partial.c_str());
}

// For writing where that is allowed: NFS locks nothing that is open for reading alone.
FileLock::FileLock(const std::filesystem::path& path)
    : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  if (fd_ < 0) fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

bool FileLock::take(bool wait) {
  int failed = -1;
  do {
    failed = ::flock(fd_, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
  } while (failed != 0 && errno == EINTR);
  return failed == 0;
}

FileLock lock_directory(const std::filesystem::path& directory, bool wait) {
  if (!std::filesystem::is_directory(directory)) {
    fail("{}: expected a directory", directory.string());
  }
  const auto is_taken = [&](FileLock& lock) {
    if (lock.take(wait)) return true;
    if (errno == EWOULDBLOCK) fail("{}: another squish is writing there", directory.string());
    return false;
  };
  FileLock lock(directory);
  if (!lock.is_open()) fail("{}: cannot be opened: {}", directory.string(), errno_text());
  if (is_taken(lock)) return lock;
  // NFS locks no directory, as that is open for reading alone.
  FileLock inside(directory / kLockFile);
  is_taken(inside);  // else the file system knows no locks
  return inside;
}

std::filesystem::path user_cache() {
  const auto variable = [](const char* name) -> std::filesystem::path {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  const std::filesystem::path cache = variable("XDG_CACHE_HOME");
  return (cache.empty() ? variable("HOME") / ".cache" : cache) / "squish";
}

std::string sha256(std::span<const std::byte> bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    fail("SHA-256 failed: OpenSSL does not have it, or no memory");
  }
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

std::string short_digest(const std::string& sha256) { return sha256.substr(0, kShortDigest); }

bool is_short_digest(std::string_view name) {
  return name.size() == kShortDigest &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace squish
