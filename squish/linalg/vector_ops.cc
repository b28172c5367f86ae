#include "squish/base/isa.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::linalg {

namespace scalar {
extern const VectorOps kVectorOps;
}
namespace avx2 {
extern const VectorOps kVectorOps;
}
namespace avx512 {
extern const VectorOps kVectorOps;
}

const VectorOps& vector_ops() {
  return choose(scalar::kVectorOps, avx2::kVectorOps, avx512::kVectorOps);
}

}  // namespace squish::linalg
