// NEON (AArch64): 4 floats a vector, 32 registers.
#include <arm_neon.h>
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "neon.hpp"

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
