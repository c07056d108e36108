// Vectors of words without instructions of their own: what adding-a-kernel.md lists.

#include "primitives.hpp"

constexpr int kLanes = 4;
constexpr int kSquare = 4;
constexpr int kVectors = 2;  // that a matrix is multiplied with at once

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
[[gnu::always_inline]] inline Vec load_kept(const void* from) { return load(from); }
[[gnu::always_inline]] inline Vec load_any(const void* from) { return load(from); }
[[gnu::always_inline]] inline void store(void* to, Vec a) { __builtin_memcpy(to, &a, sizeof a); }
[[gnu::always_inline]] inline void store_any(void* to, Vec a) { store(to, a); }
[[gnu::always_inline]] inline Vec splat(float a) {
    return lanewise([=](int) { return a; });
}
// The word at this place in every lane.
[[gnu::always_inline]] inline Vec splat_word(const Word* from) {
    float word;
    __builtin_memcpy(&word, from, sizeof word);
    return splat(word);
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
[[gnu::always_inline]] inline Vec over(Vec a, Vec b) {
    return lanewise([&](int i) { return a.v[i] / b.v[i]; });
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
[[gnu::always_inline]] inline Vec power_of_two(Vec a) {
    return lanewise([&](int i) {
        std::uint32_t bits;
        __builtin_memcpy(&bits, &a.v[i], sizeof bits);
        bits = (bits << 23) + 0x3f800000u;
        float power;
        __builtin_memcpy(&power, &bits, sizeof power);
        return power;
    });
}

inline void transpose_square(const Word* from, std::ptrdiff_t from_row, Word* to, std::ptrdiff_t to_row) {
    for (int i = 0; i < kSquare; ++i)
        for (int j = 0; j < kSquare; ++j) to[j * to_row + i] = from[i * from_row + j];
}

#include "portable.hpp"
