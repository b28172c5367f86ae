// To be preloaded (LD_PRELOAD): the call number FAULT_AT of those that open, map, write, sync,
// rename or remove something in the folder FAULT_DIR fails, as a disk that is full or broken has
// it. How many there were is written to FAULT_COUNT at the end.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<long> calls{0};

const char* folder() {
  static const char* const name = std::getenv("FAULT_DIR");
  return name;
}

bool is_inside(const char* path) {
  return folder() != nullptr && path != nullptr &&
         std::strncmp(path, folder(), std::strlen(folder())) == 0;
}

bool is_inside(int fd) {
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof path - 1);
  if (size < 0) return false;
  path[size] = '\0';
  return is_inside(path);
}

/// Whether this call is the one that fails; errno says as what.
bool fails(int as) {
  static const char* const at = std::getenv("FAULT_AT");
  if (++calls != (at != nullptr ? std::atol(at) : 0)) return false;
  errno = as;
  return true;
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

struct Count {
  ~Count() {
    const char* const path = std::getenv("FAULT_COUNT");
    if (path == nullptr) return;
    if (std::FILE* const file = std::fopen(path, "w")) {
      std::fprintf(file, "%ld", calls.load());
      std::fclose(file);
    }
  }
} at_exit;

int opened(const char* name, const char* path, int flags, va_list arguments) {
  const int mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, int) : 0;
  if (is_inside(path) && fails(EIO)) return -1;
  return next<int (*)(const char*, int, ...)>(name)(path, flags, mode);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int fd = opened("open", path, flags, arguments);
  va_end(arguments);
  return fd;
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int fd = opened("open64", path, flags, arguments);
  va_end(arguments);
  return fd;
}

ssize_t write(int fd, const void* data, size_t size) {
  if (is_inside(fd) && fails(ENOSPC)) return -1;
  return next<ssize_t (*)(int, const void*, size_t)>("write")(fd, data, size);
}

int fsync(int fd) {
  if (is_inside(fd) && fails(EIO)) return -1;
  return next<int (*)(int)>("fsync")(fd);
}

int rename(const char* from, const char* to) noexcept {
  if (is_inside(to) && fails(EIO)) return -1;
  return next<int (*)(const char*, const char*)>("rename")(from, to);
}

int unlink(const char* path) noexcept {
  if (is_inside(path) && fails(EIO)) return -1;
  return next<int (*)(const char*)>("unlink")(path);
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (is_inside(path) && fails(ENOSPC)) return -1;
  return next<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}

void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  if (fd >= 0 && is_inside(fd) && fails(ENOMEM)) return MAP_FAILED;
  return next<void* (*)(void*, size_t, int, int, int, off_t)>("mmap")(at, size, protection, flags,
                                                                      fd, offset);
}

}  // extern "C"
