// Primitives that need no instructions of their own, for the kernels without better ones.

[[gnu::always_inline]] inline void copy_masked_strided(float* to, const float* from, std::uint16_t mask, int width,
                                                       int stride) {
    for (int x = 0; x < width; ++x) to[x] = (mask >> x & 1) != 0 ? from[x * stride] : 0.0f;
}

[[gnu::always_inline]] inline void copy_masked(float* to, const float* from, std::uint16_t mask, int width) {
    copy_masked_strided(to, from, mask, width, 1);
}

[[gnu::always_inline]] inline Vec load_four(const float* from) {
    static_assert(kLanes == 4);
    return load(from);
}

template <int Index>
[[gnu::always_inline]] inline Vec spread(Vec four) {
    return splat(four.v[Index]);
}

struct Table {
    const float* values;
};

[[gnu::always_inline]] inline Table make_table(const float* from) { return {from}; }

[[gnu::always_inline]] inline Vec look_up(const Table& table, const std::uint8_t* indices) {
    alignas(16) float found[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) found[lane] = table.values[indices[lane]];
    return load(found);
}
