// No instruction set in particular: four floats at a time, as the compiler likes to do them.
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "scalar.hpp"

#include "loops.hpp"

constexpr bool kByVectors = false;

#include "exponential.hpp"

#include "elementwise.hpp"

#include "normalisation.hpp"

#include "pooling.hpp"

#include "winograd.hpp"

constexpr int kTileRows = 4, kTileVectors = 2, kImageRows = 2, kImageColumns = 2;

#include "gates.hpp"

#include "matrices.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1, 4>(), sparse<1, 2, 2>(), sparse<1, 4, 1>(), sparse<1, 5, 1>(), sparse<1, 7, 1>(), sparse<1, 8, 1>(),
    sparse<2, 4, 1>(), paired<1, 1>(),    paired<1, 4>(),    dense<4, 1, 1>(),  dense<4, 1, 2>(),  dense<2, 1, 4>(),
};

constexpr WinogradProduct kProducts[] = {
    product<4, 1>(),
    product<4, 2>(),
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

extern constinit const Kernels kScalarKernels = table("scalar", kCycles, {}, kVariants, kProducts);

}  // namespace secateur
