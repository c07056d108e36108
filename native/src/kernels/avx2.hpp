// Vectors of words with AVX2 and FMA: what adding-a-kernel.md lists.

#include "primitives.hpp"

constexpr int kLanes = 8;
constexpr int kSquare = 8;
constexpr int kVectors = 4;  // that a matrix is multiplied with at once

struct Vec {
    __m256 v;
};

[[gnu::always_inline]] inline Vec load(const void* from) { return {_mm256_load_ps(static_cast<const float*>(from))}; }
// For what is read twice: kept in a register, where the compiler would rather have each multiply-add load it again.
[[gnu::always_inline]] inline Vec load_kept(const void* from) {
    Vec loaded = load(from);
    asm("" : "+x"(loaded.v));
    return loaded;
}
[[gnu::always_inline]] inline Vec load_any(const void* from) {
    return {_mm256_loadu_ps(static_cast<const float*>(from))};
}
[[gnu::always_inline]] inline void store(void* to, Vec a) { _mm256_store_ps(static_cast<float*>(to), a.v); }
[[gnu::always_inline]] inline void store_any(void* to, Vec a) { _mm256_storeu_ps(static_cast<float*>(to), a.v); }
[[gnu::always_inline]] inline Vec splat(float a) { return {_mm256_set1_ps(a)}; }
// The word at this place in every lane.
[[gnu::always_inline]] inline Vec splat_word(const Word* from) {
    float word;
    __builtin_memcpy(&word, from, sizeof word);
    return splat(word);
}
[[gnu::always_inline]] inline Vec fused(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
[[gnu::always_inline]] inline Vec plus(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec minus(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec times(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec over(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec larger(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec smaller(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec largest(Vec a, Vec b) {
    return {_mm256_blendv_ps(_mm256_max_ps(a.v, b.v), a.v, _mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q))};
}
[[gnu::always_inline]] inline Vec power_of_two(Vec a) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(a.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3f800000)))};
}

// Four words in both halves of a vector, and one of them everywhere.
[[gnu::always_inline]] inline Vec load_four(const Word* from) {
    return {_mm256_broadcast_ps(reinterpret_cast<const __m128*>(from))};
}
template <int Index>
[[gnu::always_inline]] inline Vec spread(Vec four) {
    return {_mm256_permute_ps(four.v, Index * 0x55)};
}

// The lanes of even and of odd number of two vectors side by side.
[[gnu::always_inline]] inline void part(Vec a, Vec b, Vec& even, Vec& odd) {
    const __m256 low = _mm256_permute2f128_ps(a.v, b.v, 0x20), high = _mm256_permute2f128_ps(a.v, b.v, 0x31);
    // low: a0-3 b0-3, high: a4-7 b4-7; the shuffles give a0 a2 a4 a6 b0 b2 b4 b6 and the others.
    even = {_mm256_shuffle_ps(low, high, 0x88)}, odd = {_mm256_shuffle_ps(low, high, 0xDD)};
}

[[gnu::always_inline]] inline __m256i lanes_of(unsigned mask) {
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bits), bits);
}

[[gnu::always_inline]] inline void store_some(void* to, Vec a, int count) {
    if (count >= kLanes) _mm256_storeu_ps(static_cast<float*>(to), a.v);
    else _mm256_maskstore_ps(static_cast<float*>(to), lanes_of((1u << count) - 1), a.v);
}

[[gnu::always_inline]] inline void pack_piece(const RowPack& pack, const RowPiece& piece, const Word* from, Word* to) {
    const __m256 fill = splat_word(&pack.fill).v;
    for (int copy = 0; copy < pack.copies; ++copy, to += pack.copy_stride) {
        const int shift = pack.shifts[copy];
        const std::uint64_t mask = piece.mask >> shift;
        if (pack.stride == 1 && piece.width % 8 == 0) {
            for (int x = 0; x < piece.width; x += 8) {
                const __m256i lanes = lanes_of(mask >> x & 255);
                const __m256 loaded = _mm256_maskload_ps(as_floats(from + shift + x), lanes);
                store(to + x, {_mm256_blendv_ps(fill, loaded, _mm256_castsi256_ps(lanes))});
            }
            continue;
        }
        pack_words(from + shift, mask, pack.stride, piece.width, pack.fill, to);
    }
}

// Lane i of what is picked is from[lanes[i]], of `fill` where lanes[i] is negative.
struct Pattern {
    __m256i index;
    __m256 filled;
};

[[gnu::always_inline]] inline Pattern make_pattern(const std::int32_t* lanes) {
    const __m256i index = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes));
    return {index, _mm256_castsi256_ps(_mm256_srai_epi32(index, 31))};
}

[[gnu::always_inline]] inline Vec pick(const Word* from, const Pattern& pattern, Vec fill) {
    return {_mm256_blendv_ps(_mm256_permutevar8x32_ps(load(from).v, pattern.index), fill.v, pattern.filled)};
}

struct Table {
    const Word* values;
};

[[gnu::always_inline]] inline Table make_table(const Word* from) { return {from}; }

[[gnu::always_inline]] inline Vec look_up(const Table& table, const std::uint8_t* indices) {
    const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(indices)));
    return {_mm256_i32gather_ps(as_floats(table.values), index, 4)};
}

#include "transpose8.hpp"
