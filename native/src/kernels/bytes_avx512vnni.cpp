// Eight bits with AVX-512 and its dot product (VNNI).
#include <immintrin.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "avx512.hpp"

#include "avx512_bytes.hpp"

[[gnu::always_inline]] inline Sum dot(Sum sum, Vec inputs, Vec weight) {
    return {_mm512_dpbusd_epi32(sum.v, as_ints(inputs).v, as_ints(weight).v)};
}

#include "streams.hpp"

#include "bytes.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 8>(), sparse<1, 2, 4>(), sparse<1, 3, 4>(),  sparse<1, 4, 2>(),  sparse<1, 5, 2>(), sparse<1, 6, 2>(),
    sparse<1, 7, 2>(), sparse<1, 8, 2>(), sparse<1, 10, 1>(), sparse<1, 16, 1>(), sparse<2, 2, 2>(), sparse<2, 3, 2>(),
    sparse<2, 4, 2>(), sparse<4, 2, 2>(), sparse<4, 4, 1>(),  dense<16, 1, 1>(),  dense<8, 1, 2>(),  dense<8, 1, 3>(),
    dense<4, 1, 4>(),  dense<4, 1, 5>(),  dense<4, 1, 6>(),   dense<4, 2, 2>(),   dense<4, 2, 3>(),
};

constexpr Cycles kCycles = {
    .multiply_add = 1.0,
    .shifted_row = 2.2,
    .strided_row = 5,
    .sparse_step = 2.2,
    .dense_step = 1.6,
    .sparse_weight = 0.45,
    .dense_weight = 0.1,
};

// Tiles of 1 to 16 vectors with 7 to 72 words an output on a Xeon of the fourth generation, two dot products a cycle.
constexpr Costs kCosts = {.load = 1.1, .nonzero = 1.5, .sums = 3.0, .finish = 3.8, .pixels = 2.4};

}  // namespace

extern constinit const Bytes kAvx512VnniBytes = byte_table(false, kCycles, kCosts, kVariants);

}  // namespace secateur
