// NEON (AArch64): 4 floats a vector, 32 registers.
#include <arm_neon.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "primitives.hpp"

constexpr int kLanes = 4;
constexpr int kSquare = 4;

struct Vec {
    float32x4_t v;
};

[[gnu::always_inline]] inline Vec load(const void* from) { return {vld1q_f32(static_cast<const float*>(from))}; }
[[gnu::always_inline]] inline Vec load_any(const void* from) { return {vld1q_f32(static_cast<const float*>(from))}; }
[[gnu::always_inline]] inline void store(void* to, Vec a) { vst1q_f32(static_cast<float*>(to), a.v); }
[[gnu::always_inline]] inline void store_any(void* to, Vec a) { vst1q_f32(static_cast<float*>(to), a.v); }
[[gnu::always_inline]] inline Vec splat(float a) { return {vdupq_n_f32(a)}; }
[[gnu::always_inline]] inline Vec fused(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
[[gnu::always_inline]] inline Vec plus(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec minus(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec times(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec larger(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec smaller(Vec a, Vec b) { return {vminq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec largest(Vec a, Vec b) { return larger(a, b); }

inline void transpose_square(const Word* from, std::ptrdiff_t from_row, Word* to, std::ptrdiff_t to_row) {
    for (int i = 0; i < kSquare; ++i)
        for (int j = 0; j < kSquare; ++j) to[j * to_row + i] = from[i * from_row + j];
}

#include "portable.hpp"

#include "loops.hpp"

#include "elementwise.hpp"

#include "pooling.hpp"

#include "winograd.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 8>(),  sparse<1, 2, 4>(),  sparse<1, 4, 2>(), sparse<1, 5, 2>(), sparse<1, 7, 1>(), sparse<1, 8, 1>(),
    sparse<1, 10, 1>(), sparse<1, 16, 1>(), sparse<2, 4, 1>(), sparse<2, 8, 1>(), sparse<4, 4, 1>(), paired<1, 1>(),
    paired<1, 4>(),     paired<1, 8>(),     paired<2, 4>(),    dense<16, 1, 1>(), dense<8, 1, 2>(),  dense<4, 1, 4>(),
    dense<4, 1, 5>(),   dense<3, 1, 7>(),   dense<3, 1, 8>(),  dense<2, 1, 8>(),  dense<2, 2, 4>(),
};

constexpr WinogradProduct kProducts[] = {
    product<16, 1>(),
    product<8, 2>(),
    product<4, 4>(),
};

constexpr Cycles kCycles = {
    .multiply_add = 0.5,
    .shifted_row = 5,
    .strided_row = 20,
    .sparse_step = 6.0,
    .dense_step = 1.0,
    .sparse_weight = 1.2,
    .dense_weight = 0.2,
};

#include "table.hpp"

}  // namespace

extern constinit const Kernels kNeonKernels = table("neon", kCycles, {}, kVariants, kProducts);

}  // namespace secateur
