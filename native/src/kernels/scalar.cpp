// No instruction set in particular: four floats at a time, as the compiler likes to do them.
#include <math.h>

#include "kernels.hpp"

namespace secateur {
namespace {

#include "primitives.hpp"

constexpr int kLanes = 4;
constexpr int kSquare = 4;

struct Vec {
    float v[kLanes];
};

template <typename Function>
[[gnu::always_inline]] inline Vec lanewise(Function function) {
    Vec result;
    for (int i = 0; i < kLanes; ++i) result.v[i] = function(i);
    return result;
}

[[gnu::always_inline]] inline Vec load(const void* from) {
    Vec result;
    __builtin_memcpy(&result, from, sizeof result);
    return result;
}
[[gnu::always_inline]] inline Vec load_any(const void* from) { return load(from); }
[[gnu::always_inline]] inline void store(void* to, Vec a) { __builtin_memcpy(to, &a, sizeof a); }
[[gnu::always_inline]] inline void store_any(void* to, Vec a) { store(to, a); }
[[gnu::always_inline]] inline Vec splat(float a) {
    return lanewise([=](int) { return a; });
}
[[gnu::always_inline]] inline Vec fused(Vec a, Vec b, Vec c) {
    return lanewise([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
[[gnu::always_inline]] inline Vec plus(Vec a, Vec b) {
    return lanewise([&](int i) { return a.v[i] + b.v[i]; });
}
[[gnu::always_inline]] inline Vec minus(Vec a, Vec b) {
    return lanewise([&](int i) { return a.v[i] - b.v[i]; });
}
[[gnu::always_inline]] inline Vec times(Vec a, Vec b) {
    return lanewise([&](int i) { return a.v[i] * b.v[i]; });
}
[[gnu::always_inline]] inline Vec larger(Vec a, Vec b) {
    return lanewise([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
[[gnu::always_inline]] inline Vec smaller(Vec a, Vec b) {
    return lanewise([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
[[gnu::always_inline]] inline Vec largest(Vec a, Vec b) {
    return lanewise([&](int i) { return a.v[i] > b.v[i] || a.v[i] != a.v[i] ? a.v[i] : b.v[i]; });
}

inline void transpose_square(const Word* from, std::ptrdiff_t from_row, Word* to, std::ptrdiff_t to_row) {
    for (int i = 0; i < kSquare; ++i)
        for (int j = 0; j < kSquare; ++j) to[j * to_row + i] = from[i * from_row + j];
}

#include "portable.hpp"

#include "loops.hpp"

#include "elementwise.hpp"

#include "pooling.hpp"

#include "winograd.hpp"

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
