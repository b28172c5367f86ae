#pragma once

/// A product that is rounded before it goes into a sum, for *.isa.cc files, which are compiled so
/// that products and sums fuse.
#if defined(__clang__)
#define SQUISH_ROUNDED(product) __arithmetic_fence(product)
#else
#define SQUISH_ROUNDED(product) __builtin_assoc_barrier(product)
#endif
