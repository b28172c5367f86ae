#include "squish/base/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "squish/base/descriptor.h"
#include "squish/base/error.h"
#include "squish/base/text.h"

namespace squish {
namespace {

/// Of the list of all mappings, which a signal handler walks: nodes are used again, never freed.
struct Mapping {
  std::atomic<const std::byte*> begin = nullptr;  // null: free
  std::size_t size = 0;
  std::filesystem::path path;
  std::string lost;  // what is said if it is cut short
  struct stat status {};
  Mapping* next = nullptr;
};

std::atomic<Mapping*> first_mapping = nullptr;
std::mutex changing;
std::atomic<int> code_of_lost_pages = 1;

Mapping* free_mapping() {
  for (Mapping* at = first_mapping; at != nullptr; at = at->next) {
    if (at->begin == nullptr) return at;
  }
  auto made = std::make_unique<Mapping>();
  made->next = first_mapping;
  first_mapping = made.get();
  return made.release();
}

void unmap(Mapping& mapping) {
  const std::lock_guard lock(changing);
  const std::byte* const begin = mapping.begin.exchange(nullptr);
  ::munmap(const_cast<std::byte*>(begin), mapping.size);
}

Mapping& map(const std::filesystem::path& path, const struct stat& status, int fd) {
  const std::lock_guard lock(changing);
  Mapping& mapping = *free_mapping();
  mapping.path = path;
  mapping.lost = fmt::format(
      "\nsquish: {}: cannot be read any more: it was cut short meanwhile, or its disk fails\n",
      printable(path.string()));
  mapping.status = status;
  mapping.size = static_cast<std::size_t>(status.st_size);
  void* const address = ::mmap(nullptr, mapping.size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (address == MAP_FAILED) fail("{}: cannot be mapped: {}", path.string(), errno_text());
  mapping.begin = static_cast<const std::byte*>(address);
  return mapping;
}

extern "C" void say_what_is_lost(int signal, siginfo_t* info, void*) {
  const auto* const at = static_cast<const std::byte*>(info->si_addr);
  for (const Mapping* mapping = first_mapping; mapping != nullptr; mapping = mapping->next) {
    const std::byte* const begin = mapping->begin;
    if (begin == nullptr || at < begin || at >= begin + mapping->size) continue;
    write_error(mapping->lost);
    ::_exit(code_of_lost_pages);
  }
  ::signal(signal, SIG_DFL);  // not one of ours: it comes again and ends the program
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file(path, O_RDONLY);
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    fail("{}: cannot be opened: {}", path.string(), errno_text());
  }
  if (!S_ISREG(status.st_mode)) fail("{}: expected a regular file", path.string());
  if (status.st_size == 0) return;
  Mapping& mapping = map(path, status, file.get());
  bytes_ = {mapping.begin.load(), mapping.size};
  mapping_ = {bytes_.data(), [&mapping](const void*) { unmap(mapping); }};
}

void read_ahead(std::span<const std::byte> mapped) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(mapped.data()) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(mapped.data() + mapped.size());
  // Advice alone.
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

void check_mapped_files() {
  const std::lock_guard lock(changing);
  for (const Mapping* mapping = first_mapping; mapping != nullptr; mapping = mapping->next) {
    struct stat now {};
    const struct stat& then = mapping->status;
    if (mapping->begin == nullptr || ::stat(mapping->path.c_str(), &now) != 0) continue;
    if (now.st_dev != then.st_dev || now.st_ino != then.st_ino) continue;
    if (now.st_size != then.st_size || now.st_mtim.tv_sec != then.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != then.st_mtim.tv_nsec) {
      fail("{}: was written to while it was read; nothing is made of it", mapping->path.string());
    }
  }
}

void report_lost_pages(int exit_code) {
  code_of_lost_pages = exit_code;
  struct sigaction action {};
  action.sa_sigaction = say_what_is_lost;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace squish
