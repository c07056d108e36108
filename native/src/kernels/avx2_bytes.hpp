// What AVX2 does with bytes, but for the dot product: what adding-a-kernel.md lists.

constexpr std::int32_t kShift = 0;

struct Ints {
    __m256i v;
};

using Sum = Ints;
using Halves = Ints;

[[gnu::always_inline]] inline Ints as_ints(Vec a) { return {_mm256_castps_si256(a.v)}; }
[[gnu::always_inline]] inline Vec as_vec(Ints a) { return {_mm256_castsi256_ps(a.v)}; }
[[gnu::always_inline]] inline Ints splat_int(std::int32_t a) { return {_mm256_set1_epi32(a)}; }
[[gnu::always_inline]] inline Ints plus_ints(Ints a, Ints b) { return {_mm256_add_epi32(a.v, b.v)}; }
[[gnu::always_inline]] inline Sum none() { return {_mm256_setzero_si256()}; }
[[gnu::always_inline]] inline Sum sum_of(Ints a) { return a; }
[[gnu::always_inline]] inline Sum joined(Sum a, Sum b) { return plus_ints(a, b); }
[[gnu::always_inline]] inline Ints total(Sum sum) { return sum; }
[[gnu::always_inline]] inline Vec float_of(Ints a) { return {_mm256_cvtepi32_ps(a.v)}; }
[[gnu::always_inline]] inline Ints rounded(Vec a) { return {_mm256_cvtps_epi32(a.v)}; }
[[gnu::always_inline]] inline Vec clamped(Vec a, Vec low, Vec high) { return smaller(larger(a, low), high); }
[[gnu::always_inline]] inline Vec most(Vec a, Vec b) {
    return {_mm256_castsi256_ps(_mm256_max_epu8(as_ints(a).v, as_ints(b).v))};
}

template <int Index>
[[gnu::always_inline]] inline Ints byte_of(Vec words) {
    const __m256i shifted = Index == 0 ? as_ints(words).v : _mm256_srli_epi32(as_ints(words).v, 8 * Index);
    return {Index == 3 ? shifted : _mm256_and_si256(shifted, _mm256_set1_epi32(255))};
}

[[gnu::always_inline]] inline Halves halves(Ints a, Ints b) { return {_mm256_packs_epi32(a.v, b.v)}; }

// In every half of a vector four words, of which first all the lowest bytes lie side by side.
[[gnu::always_inline]] inline Vec ordered(__m256i bytes) {
    const __m256i order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return {_mm256_castsi256_ps(_mm256_shuffle_epi8(bytes, order))};
}

[[gnu::always_inline]] inline Vec words_of(Halves low, Halves high) {
    return ordered(_mm256_packus_epi16(low.v, high.v));
}

struct Packing {
    __m256i zero, low, high;
};

[[gnu::always_inline]] inline Packing make_packing(int zero, int low, int high) {
    return {_mm256_set1_epi16(static_cast<short>(zero)), _mm256_set1_epi8(static_cast<char>(low)),
            _mm256_set1_epi8(static_cast<char>(high))};
}

[[gnu::always_inline]] inline Vec words_of(Halves low, Halves high, const Packing& packing) {
    const __m256i bytes =
        _mm256_packus_epi16(_mm256_adds_epi16(low.v, packing.zero), _mm256_adds_epi16(high.v, packing.zero));
    return ordered(_mm256_min_epu8(_mm256_max_epu8(bytes, packing.low), packing.high));
}
