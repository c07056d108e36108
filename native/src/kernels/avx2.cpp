// AVX2 and FMA: 8 floats a vector, 16 registers.
#include <immintrin.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "avx2.hpp"

#include "loops.hpp"

constexpr bool kByVectors = true;

#include "exponential.hpp"

#include "elementwise.hpp"

#include "normalisation.hpp"

#include "pooling.hpp"

#include "winograd.hpp"

constexpr int kTileRows = 6, kTileVectors = 2, kImageRows = 3, kImageColumns = 3;

#include "gates.hpp"

#include "matrices.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 8>(),  sparse<1, 2, 4>(),  sparse<1, 4, 2>(), sparse<1, 5, 2>(), sparse<1, 7, 1>(), sparse<1, 8, 1>(),
    sparse<1, 10, 1>(), sparse<1, 12, 1>(), sparse<2, 2, 2>(), sparse<2, 4, 1>(), sparse<4, 2, 1>(), paired<1, 1>(),
    paired<1, 2>(),     paired<1, 4>(),     paired<2, 2>(),    dense<8, 1, 1>(),  dense<4, 1, 2>(),  dense<3, 1, 4>(),
    dense<2, 1, 4>(),   dense<3, 2, 2>(),   dense<2, 2, 2>(),
};

constexpr WinogradProduct kProducts[] = {
    product<12, 1>(),
    product<8, 1>(),
    product<6, 2>(),
    product<3, 4>(),
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

#include "table.hpp"

}  // namespace

extern constinit const Kernels kAvx2Kernels = table("avx2", kCycles, {}, kVariants, kProducts);

}  // namespace secateur
