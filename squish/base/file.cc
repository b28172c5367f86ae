#include "squish/base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "squish/base/error.h"

namespace squish {
namespace {

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags, mode_t mode = 0)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  int close() {
    const int result = fd_ >= 0 ? ::close(fd_) : 0;
    fd_ = -1;
    return result;
  }

 private:
  int fd_;
};

std::string reason() { return std::strerror(errno); }

/// The temporary name beside `path`, whose directory exists afterwards.
std::filesystem::path prepare_partial(const std::filesystem::path& path) {
  std::error_code error;
  if (path.has_parent_path()) {
    std::filesystem::create_directories(path.parent_path(), error);
    if (error) fail("{}: cannot be created: {}", path.parent_path().string(), error.message());
  }
  if (std::filesystem::is_directory(path, error)) {
    fail("{}: cannot be written: it is a directory", path.string());
  }
  std::filesystem::path partial = path;
  partial += fmt::format(".{}.partial", ::getpid());
  return partial;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file(path, O_RDONLY);
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    fail("{}: cannot be opened: {}", path.string(), reason());
  }
  if (!S_ISREG(status.st_mode)) fail("{}: expected a regular file", path.string());
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return;
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) fail("{}: cannot be mapped: {}", path.string(), reason());
  mapping_ = std::shared_ptr<const void>(
      address, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
  bytes_ = {static_cast<const std::byte*>(address), size};
}

std::string read_text(const std::filesystem::path& path, std::size_t limit) {
  const MappedFile file(path);
  if (file.bytes().size() > limit) {
    fail("{}: {} bytes, expected at most {}", path.string(), file.bytes().size(), limit);
  }
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

void write_atomically(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path partial = prepare_partial(path);
  const auto give_up = [&](const char* what) {
    const std::string why = reason();
    ::unlink(partial.c_str());
    fail("{}: cannot be {}: {}", path.string(), what, why);
  };
  Descriptor file(partial, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file.get() < 0) fail("{}: cannot be written: {}", path.string(), reason());
  while (!content.empty()) {
    const ssize_t written = ::write(file.get(), content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) give_up("written");
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(file.get()) != 0) give_up("synced");
  if (file.close() != 0) give_up("closed");
  if (::rename(partial.c_str(), path.c_str()) != 0) give_up("renamed into place");
}

void check_writable(const std::filesystem::path& path) {
  const std::filesystem::path partial = prepare_partial(path);
  const Descriptor file(partial, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file.get() < 0) fail("{}: cannot be written: {}", path.string(), reason());
  ::unlink(partial.c_str());
}

std::string sha256(std::span<const std::byte> bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    fail("SHA-256 is not available in this OpenSSL");
  }
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

}  // namespace squish
