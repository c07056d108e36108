// Eight bits with AVX2.
#include <immintrin.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "avx2.hpp"

#include "avx2_bytes.hpp"

// Two products in 16 bits each, which saturate; then two of those in 32.
[[gnu::always_inline]] inline Sum dot(Sum sum, Vec inputs, Vec weight) {
    const __m256i pairs = _mm256_maddubs_epi16(as_ints(inputs).v, as_ints(weight).v);
    return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
}

#include "streams.hpp"

#include "bytes.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 4>(), sparse<1, 2, 2>(), sparse<1, 4, 1>(), sparse<1, 8, 1>(), sparse<2, 2, 1>(),
    sparse<2, 4, 1>(), sparse<4, 2, 1>(), dense<8, 1, 1>(),  dense<4, 1, 2>(),
};

constexpr Cycles kCycles = {
    .multiply_add = 1.4,
    .shifted_row = 5,
    .strided_row = 20,
    .sparse_step = 10,
    .dense_step = 2.0,
    .sparse_weight = 1.2,
    .dense_weight = 0.3,
};

// As those of bytes_avx512.cpp, on the same processor.
constexpr Costs kCosts = {.load = 1.0, .nonzero = 0.1, .sums = 1.1, .finish = 1.7, .pixels = 0.9};

}  // namespace

extern constinit const Bytes kAvx2Bytes = byte_table(true, kCycles, kCosts, kVariants);

}  // namespace secateur
