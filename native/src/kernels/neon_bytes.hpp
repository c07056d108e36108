// What NEON does with bytes, but for sums and the dot product: what adding-a-kernel.md lists.

constexpr std::int32_t kShift = 128;

struct Ints {
    int32x4_t v;
};

struct Halves {
    int16x8_t v;
};

[[gnu::always_inline]] inline Ints as_ints(Vec a) { return {vreinterpretq_s32_f32(a.v)}; }
[[gnu::always_inline]] inline Vec as_vec(Ints a) { return {vreinterpretq_f32_s32(a.v)}; }
[[gnu::always_inline]] inline Ints splat_int(std::int32_t a) { return {vdupq_n_s32(a)}; }
[[gnu::always_inline]] inline Ints plus_ints(Ints a, Ints b) { return {vaddq_s32(a.v, b.v)}; }
[[gnu::always_inline]] inline Vec float_of(Ints a) { return {vcvtq_f32_s32(a.v)}; }
[[gnu::always_inline]] inline Ints rounded(Vec a) { return {vcvtnq_s32_f32(a.v)}; }
[[gnu::always_inline]] inline Vec clamped(Vec a, Vec low, Vec high) {
    return {vminnmq_f32(vmaxnmq_f32(a.v, low.v), high.v)};
}
[[gnu::always_inline]] inline uint8x16_t bytes_of(Vec a) { return vreinterpretq_u8_f32(a.v); }
[[gnu::always_inline]] inline Vec most(Vec a, Vec b) {
    return {vreinterpretq_f32_u8(vmaxq_u8(bytes_of(a), bytes_of(b)))};
}

// Less 128.
[[gnu::always_inline]] inline int8x16_t signed_bytes(Vec a) {
    return vreinterpretq_s8_u8(veorq_u8(bytes_of(a), vdupq_n_u8(128)));
}

template <int Index>
[[gnu::always_inline]] inline Ints byte_of(Vec words) {
    const uint32x4_t bits = vreinterpretq_u32_f32(words.v);
    if constexpr (Index == 3) return {vreinterpretq_s32_u32(vshrq_n_u32(bits, 24))};
    else if constexpr (Index == 0) return {vreinterpretq_s32_u32(vandq_u32(bits, vdupq_n_u32(255)))};
    else return {vreinterpretq_s32_u32(vandq_u32(vshrq_n_u32(bits, 8 * Index), vdupq_n_u32(255)))};
}

[[gnu::always_inline]] inline Halves halves(Ints a, Ints b) { return {vqmovn_high_s32(vqmovn_s32(a.v), b.v)}; }

// Four words, of which first all the lowest bytes lie side by side.
[[gnu::always_inline]] inline Vec ordered(uint8x16_t bytes) {
    const uint8x16_t order = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return {vreinterpretq_f32_u8(vqtbl1q_u8(bytes, order))};
}

[[gnu::always_inline]] inline Vec words_of(Halves low, Halves high) {
    return ordered(vqmovun_high_s16(vqmovun_s16(low.v), high.v));
}

struct Packing {
    int16x8_t zero;
    uint8x16_t low, high;
};

[[gnu::always_inline]] inline Packing make_packing(int zero, int low, int high) {
    return {vdupq_n_s16(static_cast<std::int16_t>(zero)), vdupq_n_u8(static_cast<std::uint8_t>(low)),
            vdupq_n_u8(static_cast<std::uint8_t>(high))};
}

[[gnu::always_inline]] inline Vec words_of(Halves low, Halves high, const Packing& packing) {
    const uint8x8_t lower = vqmovun_s16(vqaddq_s16(low.v, packing.zero));
    const uint8x16_t bytes = vqmovun_high_s16(lower, vqaddq_s16(high.v, packing.zero));
    return ordered(vminq_u8(vmaxq_u8(bytes, packing.low), packing.high));
}
