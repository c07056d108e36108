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
    .multiply_add = 5.0,
    .shifted_row = 5,
    .strided_row = 20,
    .sparse_step = 10.0,
    .dense_step = 5.0,
    .sparse_weight = 1.2,
    .dense_weight = 0.6,
};

// As those of bytes_avx512.cpp, on the same processor.
constexpr Costs kCosts = {.load = 1.0, .nonzero = 0.1, .sums = 0.7, .finish = 1.5, .pixels = 0.3};

}  // namespace

extern constinit const Bytes kScalarBytes = byte_table(false, kCycles, kCosts, kVariants);

}  // namespace secateur
