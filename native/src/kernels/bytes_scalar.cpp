// Eight bits in no instruction set in particular.
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "scalar.hpp"

#include "scalar_bytes.hpp"

#include "streams.hpp"

#include "bytes.hpp"

constexpr TileVariant kVariants[] = {
    sparse<1, 1>(),
    sparse<1, 4>(),
    sparse<1, 8>(),
    dense<4, 1, 1>(),
};

constexpr Cycles kCycles = {
    .multiply_add = 2.0,
    .shifted_row = 5,
    .strided_row = 20,
    .sparse_step = 9.0,
    .dense_step = 1.0,
    .sparse_weight = 1.2,
    .dense_weight = 0.2,
};

}  // namespace

extern constinit const Bytes kScalarBytes = byte_table(false, 0, kCycles, {}, kVariants);

}  // namespace secateur
