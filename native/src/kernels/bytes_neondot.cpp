// Eight bits with NEON and its dot product.
#include <arm_neon.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "neon.hpp"

#include "neon_bytes.hpp"

using Sum = Ints;

[[gnu::always_inline]] inline Sum none() { return {vdupq_n_s32(0)}; }
[[gnu::always_inline]] inline Sum sum_of(Ints a) { return a; }
[[gnu::always_inline]] inline Sum joined(Sum a, Sum b) { return plus_ints(a, b); }
[[gnu::always_inline]] inline Ints total(Sum sum) { return sum; }

[[gnu::always_inline]] inline Sum dot(Sum sum, Vec inputs, Vec weight) {
    return {vdotq_s32(sum.v, signed_bytes(inputs), vreinterpretq_s8_f32(weight.v))};
}

#include "streams.hpp"

#include "bytes.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 8>(), sparse<1, 2, 4>(),  sparse<1, 4, 2>(), sparse<1, 5, 2>(), sparse<1, 7, 1>(),
    sparse<1, 8, 1>(), sparse<1, 16, 1>(), sparse<2, 4, 1>(), sparse<4, 4, 1>(), dense<16, 1, 1>(),
    dense<8, 1, 2>(),  dense<4, 1, 4>(),   dense<4, 1, 5>(),
};

constexpr Cycles kCycles = {
    .multiply_add = 0.7,
    .shifted_row = 5,
    .strided_row = 20,
    .sparse_step = 6.0,
    .dense_step = 1.0,
    .sparse_weight = 1.2,
    .dense_weight = 0.2,
};

// Of no measurement: two instructions a dot product.
constexpr Costs kCosts = {.load = 1.1, .nonzero = 0.5, .sums = 2.9, .finish = 3.2, .pixels = 2.0};

}  // namespace

extern constinit const Bytes kNeonDotBytes = byte_table(false, kCycles, kCosts, kVariants);

}  // namespace secateur
