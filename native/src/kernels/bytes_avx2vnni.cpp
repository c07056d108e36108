// Eight bits with AVX2 and its dot product (AVX-VNNI).
#include <immintrin.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "avx2.hpp"

#include "avx2_bytes.hpp"

[[gnu::always_inline]] inline Sum dot(Sum sum, Vec inputs, Vec weight) {
    return {_mm256_dpbusd_avx_epi32(sum.v, as_ints(inputs).v, as_ints(weight).v)};
}

#include "streams.hpp"

#include "bytes.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 8>(), sparse<1, 2, 4>(), sparse<1, 3, 2>(), sparse<1, 4, 2>(), sparse<1, 5, 1>(),
    sparse<1, 7, 1>(), sparse<1, 8, 1>(), sparse<2, 2, 2>(), sparse<2, 4, 1>(), sparse<4, 2, 1>(),
    dense<8, 1, 1>(),  dense<4, 1, 2>(),  dense<4, 1, 3>(),
};

constexpr Cycles kCycles = {
    .multiply_add = 0.5,
    .shifted_row = 5,
    .strided_row = 20,
    .sparse_step = 9.0,
    .dense_step = 1.0,
    .sparse_weight = 1.2,
    .dense_weight = 0.2,
};

// As those of bytes_avx512vnni.cpp, on the same processor.
constexpr Costs kCosts = {.load = 1.15, .nonzero = 1.2, .sums = 2.9, .finish = 3.0, .pixels = 2.4};

}  // namespace

extern constinit const Bytes kAvx2VnniBytes = byte_table(false, kCycles, kCosts, kVariants);

}  // namespace secateur
