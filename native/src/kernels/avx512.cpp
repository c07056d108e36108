// AVX-512 (F, VL, BW, DQ): 16 floats a vector, 32 registers.
#include <immintrin.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "avx512.hpp"

#include "loops.hpp"

constexpr bool kByVectors = true;

#include "exponential.hpp"

#include "elementwise.hpp"

#include "normalisation.hpp"

#include "pooling.hpp"

#include "winograd.hpp"

constexpr int kTileRows = 8, kTileVectors = 2, kImageRows = 4, kImageColumns = 6;

#include "gates.hpp"

#include "matrices.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 8>(), sparse<1, 2, 4>(), sparse<1, 3, 2>(),  sparse<1, 4, 2>(),  sparse<1, 5, 2>(),  sparse<1, 6, 1>(),
    sparse<1, 7, 1>(), sparse<1, 8, 1>(), sparse<1, 10, 1>(), sparse<1, 12, 1>(), sparse<1, 16, 1>(), sparse<2, 2, 2>(),
    sparse<2, 4, 1>(), sparse<2, 8, 1>(), sparse<4, 2, 1>(),  sparse<4, 4, 1>(),  paired<1, 1>(),     paired<1, 2>(),
    paired<1, 4>(),    paired<1, 5>(),    paired<1, 7>(),     paired<1, 8>(),     paired<2, 2>(),     paired<2, 4>(),
    paired<4, 2>(),    dense<16, 1, 1>(), dense<8, 1, 2>(),   dense<4, 1, 4>(),   dense<4, 1, 5>(),   dense<3, 1, 7>(),
    dense<3, 1, 8>(),  dense<2, 1, 8>(),  dense<4, 2, 2>(),   dense<2, 2, 4>(),   dense<3, 2, 4>(),   dense<2, 4, 2>(),
};

constexpr WinogradProduct kProducts[] = {
    product<16, 1>(),
    product<8, 2>(),
    product<4, 4>(),
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

#include "table.hpp"

}  // namespace

extern constinit const Kernels kAvx512Kernels = table("avx512", kCycles, {}, kVariants, kProducts);

}  // namespace secateur
