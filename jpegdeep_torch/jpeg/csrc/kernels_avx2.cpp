// Everything included before the target changes is compiled for the baseline: an inline function of the standard
// library compiled here for AVX2 could be the copy that the linker keeps for all.
#include <cstring>

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

// GCC reads a whole C++ file before it obeys the pragma, so __AVX2__ cannot say which build this is.
#define JPEGDEEP_AVX2

namespace jpegdeep {
namespace {
#include "kernels.inc"
#include "kernels_pixels.inc"
}  // namespace
}  // namespace jpegdeep

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace jpegdeep {

const Kernels* avx2_kernels() {
  static const Kernels kernels{dequantise, horizontal, vertical, multiply, turn, write_column, inverse, mix, "avx2"};
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kernels : nullptr;
}

}  // namespace jpegdeep

#else

namespace jpegdeep {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace jpegdeep

#endif
