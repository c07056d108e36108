// Vectors of words with AVX-512 (F, VL, BW, DQ): what adding-a-kernel.md lists.

#include "primitives.hpp"

constexpr int kLanes = 16;
constexpr int kSquare = 8;
constexpr int kVectors = 8;  // that a matrix is multiplied with at once

struct Vec {
    __m512 v;
};

[[gnu::always_inline]] inline Vec load(const void* from) { return {_mm512_load_ps(from)}; }
// For what is read twice: kept in a register, where the compiler would rather have each multiply-add load it again.
[[gnu::always_inline]] inline Vec load_kept(const void* from) {
    Vec loaded = load(from);
    asm("" : "+v"(loaded.v));
    return loaded;
}
[[gnu::always_inline]] inline Vec load_any(const void* from) { return {_mm512_loadu_ps(from)}; }
[[gnu::always_inline]] inline void store(void* to, Vec a) { _mm512_store_ps(to, a.v); }
[[gnu::always_inline]] inline void store_any(void* to, Vec a) { _mm512_storeu_ps(to, a.v); }
[[gnu::always_inline]] inline void store_some(void* to, Vec a, int count) {
    _mm512_mask_storeu_ps(to, count >= kLanes ? 0xffff : static_cast<__mmask16>((1u << count) - 1), a.v);
}
[[gnu::always_inline]] inline Vec splat(float a) { return {_mm512_set1_ps(a)}; }
// The word at this place in every lane.
[[gnu::always_inline]] inline Vec splat_word(const Word* from) {
    float word;
    __builtin_memcpy(&word, from, sizeof word);
    return splat(word);
}
[[gnu::always_inline]] inline Vec fused(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
[[gnu::always_inline]] inline Vec plus(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec minus(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec times(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec over(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec larger(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec smaller(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec largest(Vec a, Vec b) {
    return {_mm512_mask_max_ps(a.v, _mm512_cmp_ps_mask(a.v, a.v, _CMP_ORD_Q), a.v, b.v)};
}
[[gnu::always_inline]] inline Vec power_of_two(Vec a) {
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(a.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f800000)))};
}

// Four words in every quarter of a vector, and one of them everywhere.
[[gnu::always_inline]] inline Vec load_four(const Word* from) {
    return {_mm512_broadcast_f32x4(_mm_loadu_ps(as_floats(from)))};
}
template <int Index>
[[gnu::always_inline]] inline Vec spread(Vec four) {
    return {_mm512_permute_ps(four.v, Index * 0x55)};
}

// The lanes of even and of odd number of two vectors side by side.
[[gnu::always_inline]] inline void part(Vec a, Vec b, Vec& even, Vec& odd) {
    const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    even = {_mm512_permutex2var_ps(a.v, index, b.v)};
    odd = {_mm512_permutex2var_ps(a.v, _mm512_add_epi32(index, _mm512_set1_epi32(1)), b.v)};
}

[[gnu::always_inline]] inline void store_part(Word* to, __m512 a, int width) {
    if (width == 16) _mm512_store_ps(to, a);
    else if (width == 8) _mm256_store_ps(as_floats(to), _mm512_castps512_ps256(a));
    else _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << width) - 1), a);
}

[[gnu::always_inline]] inline void pack_piece(const RowPack& pack, const RowPiece& piece, const Word* from, Word* to) {
    const __m512 fill = splat_word(&pack.fill).v;
    const __m512i ramp = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if (pack.stride == 1) {  // two loads serve all copies
        const __m512 low = _mm512_mask_loadu_ps(fill, static_cast<__mmask16>(piece.mask), from);
        const __m512 high = _mm512_mask_loadu_ps(fill, static_cast<__mmask16>(piece.mask >> 16), from + 16);
        if (pack.shifts[pack.copies - 1] <= 16) {
            for (int copy = 0; copy < pack.copies; ++copy, to += pack.copy_stride) {
                const __m512i index = _mm512_add_epi32(ramp, _mm512_set1_epi32(pack.shifts[copy]));
                store_part(to, _mm512_permutex2var_ps(low, index, high), piece.width);
            }
            return;
        }
    }
    for (int copy = 0; copy < pack.copies; ++copy, to += pack.copy_stride) {
        const int shift = pack.shifts[copy];
        const std::uint64_t mask = piece.mask >> shift;
        if (pack.stride > 2) {
            pack_words(from + shift, mask, pack.stride, piece.width, pack.fill, to);
            continue;
        }
        const __m512 low = _mm512_mask_loadu_ps(fill, static_cast<__mmask16>(mask), from + shift);
        const __m512 high = _mm512_mask_loadu_ps(fill, static_cast<__mmask16>(mask >> 16), from + shift + 16);
        const __m512i index = pack.stride == 1 ? ramp : _mm512_slli_epi32(ramp, 1);
        store_part(to, _mm512_permutex2var_ps(low, index, high), piece.width);
    }
}

// Lane i of what is picked is from[lanes[i]], of `fill` where lanes[i] is negative.
struct Pattern {
    __m512i index;
    __mmask16 mask;
};

[[gnu::always_inline]] inline Pattern make_pattern(const std::int32_t* lanes) {
    const __m512i index = _mm512_loadu_si512(lanes);
    return {index, _mm512_cmpge_epi32_mask(index, _mm512_setzero_si512())};
}

[[gnu::always_inline]] inline Vec pick(const Word* from, const Pattern& pattern, Vec fill) {
    return {_mm512_mask_permutexvar_ps(fill.v, pattern.mask, pattern.index, _mm512_load_ps(from))};
}

struct Table {
    __m512 low, high;
};

[[gnu::always_inline]] inline Table make_table(const Word* from) {
    return {_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)};
}

[[gnu::always_inline]] inline Vec look_up(const Table& table, const std::uint8_t* indices) {
    const __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(indices)));
    return {_mm512_permutex2var_ps(table.low, index, table.high)};
}

#include "transpose8.hpp"
