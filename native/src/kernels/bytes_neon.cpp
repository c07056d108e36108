// Eight bits with NEON where there is no dot product.
#include <arm_neon.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "neon.hpp"

#include "neon_bytes.hpp"

// The four products of a lane as two halves.
struct Sum {
    int32x4_t low, high;
};

[[gnu::always_inline]] inline Sum none() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
[[gnu::always_inline]] inline Sum sum_of(Ints a) {
    const int32x4_t zeros = vdupq_n_s32(0);
    return {vzip1q_s32(a.v, zeros), vzip2q_s32(a.v, zeros)};
}
[[gnu::always_inline]] inline Sum joined(Sum a, Sum b) { return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
[[gnu::always_inline]] inline Ints total(Sum sum) { return {vpaddq_s32(sum.low, sum.high)}; }

// Products of eight lanes are sixteen bits; every step adds two of them to a sum of its own.
[[gnu::always_inline]] inline Sum dot(Sum sum, Vec inputs, Vec weight) {
    const int8x16_t a = signed_bytes(inputs), b = vreinterpretq_s8_f32(weight.v);
    return {vpadalq_s16(sum.low, vmull_s8(vget_low_s8(a), vget_low_s8(b))), vpadalq_s16(sum.high, vmull_high_s8(a, b))};
}

#include "streams.hpp"

#include "bytes.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 4>(), sparse<1, 2, 2>(), sparse<1, 4, 1>(), sparse<1, 5, 1>(), sparse<1, 7, 1>(),
    sparse<1, 8, 1>(), sparse<2, 4, 1>(), dense<8, 1, 1>(),  dense<4, 1, 2>(),
};

constexpr Cycles kCycles = {
    .multiply_add = 1.5,
    .shifted_row = 5,
    .strided_row = 20,
    .sparse_step = 7.0,
    .dense_step = 2.0,
    .sparse_weight = 1.2,
    .dense_weight = 0.3,
};

// Of no measurement: five instructions a dot product, as in bytes_avx2.cpp.
constexpr Costs kCosts = {.load = 1.0, .nonzero = 0.1, .sums = 1.1, .finish = 1.7, .pixels = 0.9};

}  // namespace

extern constinit const Bytes kNeonBytes = byte_table(false, kCycles, kCosts, kVariants);

}  // namespace secateur
