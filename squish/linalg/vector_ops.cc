#include "squish/base/isa.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::linalg {

SQUISH_DECLARE_TABLES(VectorOps, kVectorOps);

const VectorOps& vector_ops() {
  return choose(scalar::kVectorOps, avx2::kVectorOps, avx512::kVectorOps);
}

}  // namespace squish::linalg
