#pragma once

namespace squish::linalg {

/// OpenBLAS would start threads of its own below ours: to be called before any call to it.
void keep_blas_single_threaded();

}  // namespace squish::linalg
