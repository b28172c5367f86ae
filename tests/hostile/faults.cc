// To be preloaded (LD_PRELOAD): the call number FAULT_AT of those that open, map, write, sync,
// rename or remove something in the folder FAULT_DIR fails, as a disk that is full or broken has
// it; with FAULT_OF=memory, of those that ask for memory once main() has begun, whoever asks but
// three libraries; with FAULT_OF=locks no directory can be locked. How many there were is written
// to FAULT_COUNT at the end.
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

std::atomic<long> calls{0};
std::atomic<bool> memory_fails{false};  // not before main(): nobody could say so

const char* folder() {
  static const char* const name = std::getenv("FAULT_DIR");
  return name;
}

bool is_inside(const char* path) {
  return !memory_fails && folder() != nullptr && path != nullptr &&
         std::strncmp(path, folder(), std::strlen(folder())) == 0;
}

bool is_inside(int fd) {
  if (memory_fails) return false;
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
  static const long number = at != nullptr ? std::atol(at) : 0;
  if (++calls != number) return false;
  errno = as;
  return true;
}

/// Of libraries that use what they get without a look at it: OpenSSL when it is first called,
/// OpenBLAS in products.
std::pair<std::uintptr_t, std::uintptr_t> careless[8];

void find_careless() {
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        static int found = 0;
        const bool is_careless = std::strstr(info->dlpi_name, "libcrypto") != nullptr ||
                                 std::strstr(info->dlpi_name, "openblas") != nullptr;
        for (int i = 0; is_careless && i < info->dlpi_phnum; ++i) {
          const auto& part = info->dlpi_phdr[i];
          if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0 || found == 8) continue;
          const std::uintptr_t begin = info->dlpi_addr + part.p_vaddr;
          careless[found++] = {begin, begin + part.p_memsz};
        }
        return 0;
      },
      nullptr);
}

/// While glibc notes the destructor of a thread's object: with no memory for the note it aborts.
thread_local bool is_noting = false;

bool allocation_fails(const void* caller) {
  if (!memory_fails || is_noting) return false;
  const auto at = reinterpret_cast<std::uintptr_t>(caller);
  for (const auto& [begin, end] : careless) {
    if (at >= begin && at < end) return false;
  }
  return fails(ENOMEM);
}

int (*real_main)(int, char**, char**) = nullptr;

int main_of_the_program(int count, char** words, char** environment) {
  const char* const of = std::getenv("FAULT_OF");
  find_careless();
  memory_fails = of != nullptr && std::strcmp(of, "memory") == 0;
  const int code = real_main(count, words, environment);
  memory_fails = false;
  return code;
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

// Of glibc: what its own functions of these names do.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) noexcept {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_malloc(size);
}

void* calloc(size_t count, size_t size) noexcept {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_calloc(count, size);
}

void* realloc(void* old, size_t size) noexcept {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_realloc(old, size);
}

void* aligned_alloc(size_t alignment, size_t size) noexcept {
  return allocation_fails(__builtin_return_address(0)) ? nullptr : __libc_memalign(alignment, size);
}

int posix_memalign(void** made, size_t alignment, size_t size) noexcept {
  if (allocation_fails(__builtin_return_address(0))) return ENOMEM;
  *made = __libc_memalign(alignment, size);
  return *made == nullptr ? ENOMEM : 0;
}

int flock(int fd, int operation) {
  static const char* const of = std::getenv("FAULT_OF");
  struct stat status;
  if (of != nullptr && std::strcmp(of, "locks") == 0 && ::fstat(fd, &status) == 0 &&
      S_ISDIR(status.st_mode)) {
    errno = EBADF;
    return -1;
  }
  return next<int (*)(int, int)>("flock")(fd, operation);
}

int __cxa_thread_atexit_impl(void (*destroy)(void*), void* object, void* library) {
  static const auto real = next<int (*)(void (*)(void*), void*, void*)>("__cxa_thread_atexit_impl");
  is_noting = true;
  const int code = real(destroy, object, library);
  is_noting = false;
  return code;
}

int __libc_start_main(int (*main)(int, char**, char**), int count, char** words, void (*init)(),
                      void (*fini)(), void (*loader_fini)(), void* stack) {
  real_main = main;
  return next<decltype(&__libc_start_main)>("__libc_start_main")(main_of_the_program, count, words,
                                                                 init, fini, loader_fini, stack);
}

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
