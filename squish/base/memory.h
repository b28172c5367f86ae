#pragma once
#include <cstddef>

/// What the kernel says of memory; 0 where it does not say.
namespace squish {

/// Bytes that the machine could still give to processes.
std::size_t available_memory();

/// Bytes that this process holds now, mapped files apart.
std::size_t anonymous_memory();

/// From here on what is freed goes back to the kernel, from 1 MiB on at once: a job that promises
/// how much it holds is not to hold what it no longer uses.
void return_freed_memory();

/// The most bytes held, mapped files included, since reset_peak_rss(), or since the start where the
/// kernel cannot reset it.
std::size_t peak_rss_bytes();
void reset_peak_rss();

}  // namespace squish
