// Eight bits with AVX-512 (BW) where there is no dot product.
#include <immintrin.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "avx512.hpp"

#include "avx512_bytes.hpp"

// Two products in 16 bits each, which saturate; then two of those in 32.
[[gnu::always_inline]] inline Sum dot(Sum sum, Vec inputs, Vec weight) {
    const __m512i pairs = _mm512_maddubs_epi16(as_ints(inputs).v, as_ints(weight).v);
    return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
}

#include "streams.hpp"

#include "bytes.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 4>(), sparse<1, 2, 2>(), sparse<1, 4, 1>(), sparse<1, 8, 1>(), sparse<2, 2, 1>(), sparse<2, 4, 1>(),
    sparse<4, 2, 1>(), dense<16, 1, 1>(), dense<8, 1, 2>(),  dense<4, 1, 4>(),  dense<4, 2, 2>(),
};

constexpr Cycles kCycles = {
    .multiply_add = 2.7,
    .shifted_row = 2.2,
    .strided_row = 5,
    .sparse_step = 3.5,
    .dense_step = 3,
    .sparse_weight = 0.45,
    .dense_weight = 0.2,
};

// The same without its dot product: three instructions hide what loads and a word of weights take.
constexpr Costs kCosts = {.load = 1.0, .nonzero = 0.1, .sums = 1.1, .finish = 1.3, .pixels = 0.9};

}  // namespace

extern constinit const Bytes kAvx512Bytes = byte_table(true, kCycles, kCosts, kVariants);

}  // namespace secateur
