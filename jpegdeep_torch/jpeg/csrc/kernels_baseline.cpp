#include <cstring>

#include "kernels.h"

namespace jpegdeep {
namespace {
#include "kernels.inc"
#include "kernels_pixels.inc"
}  // namespace

const Kernels& baseline_kernels() {
  static const Kernels kernels{dequantise, horizontal, vertical, multiply, turn, write_column, inverse, mix, "baseline"};
  return kernels;
}

const Kernels& best_kernels() {
  static const Kernels& kernels = avx2_kernels() != nullptr ? *avx2_kernels() : baseline_kernels();
  return kernels;
}

}  // namespace jpegdeep
