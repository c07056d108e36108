// Vectors of words with NEON: what adding-a-kernel.md lists.

#include "primitives.hpp"

constexpr int kLanes = 4;
constexpr int kSquare = 4;
constexpr int kVectors = 8;  // that a matrix is multiplied with at once

struct Vec {
    float32x4_t v;
};

[[gnu::always_inline]] inline Vec load(const void* from) { return {vld1q_f32(static_cast<const float*>(from))}; }
[[gnu::always_inline]] inline Vec load_kept(const void* from) { return load(from); }
[[gnu::always_inline]] inline Vec load_any(const void* from) { return {vld1q_f32(static_cast<const float*>(from))}; }
[[gnu::always_inline]] inline void store(void* to, Vec a) { vst1q_f32(static_cast<float*>(to), a.v); }
[[gnu::always_inline]] inline void store_any(void* to, Vec a) { vst1q_f32(static_cast<float*>(to), a.v); }
[[gnu::always_inline]] inline Vec splat(float a) { return {vdupq_n_f32(a)}; }
// The word at this place in every lane.
[[gnu::always_inline]] inline Vec splat_word(const Word* from) {
    float word;
    __builtin_memcpy(&word, from, sizeof word);
    return splat(word);
}
[[gnu::always_inline]] inline Vec fused(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
[[gnu::always_inline]] inline Vec plus(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec minus(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec times(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec over(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec larger(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec smaller(Vec a, Vec b) { return {vminq_f32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec largest(Vec a, Vec b) { return larger(a, b); }
[[gnu::always_inline]] inline Vec power_of_two(Vec a) {
    const int32x4_t exponent = vshlq_n_s32(vreinterpretq_s32_f32(a.v), 23);
    return {vreinterpretq_f32_s32(vaddq_s32(exponent, vdupq_n_s32(0x3f800000)))};
}

inline void transpose_square(const Word* from, std::ptrdiff_t from_row, Word* to, std::ptrdiff_t to_row) {
    for (int i = 0; i < kSquare; ++i)
        for (int j = 0; j < kSquare; ++j) to[j * to_row + i] = from[i * from_row + j];
}

#include "portable.hpp"
