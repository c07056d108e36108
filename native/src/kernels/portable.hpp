// Primitives that need no instructions of their own, for the kernels without better ones.

[[gnu::always_inline]] inline void store_some(void* to, Vec a, int count) {
    if (count >= kLanes) return store_any(to, a);
    Word* words = static_cast<Word*>(to);
    alignas(16) Word values[kLanes];
    store(values, a);
    for (int i = 0; i < count; ++i) words[i] = values[i];
}

[[gnu::always_inline]] inline void pack_piece(const RowPack& pack, const RowPiece& piece, const Word* from, Word* to) {
    for (int copy = 0; copy < pack.copies; ++copy, to += pack.copy_stride)
        pack_words(from + pack.shifts[copy], piece.mask >> pack.shifts[copy], pack.stride, piece.width, pack.fill, to);
}

// The lanes of even and of odd number of two vectors side by side.
[[gnu::always_inline]] inline void part(Vec a, Vec b, Vec& even, Vec& odd) {
    alignas(16) Word both[2 * kLanes], evens[kLanes], odds[kLanes];
    store(both, a), store(both + kLanes, b);
    for (int i = 0; i < kLanes; ++i) evens[i] = both[2 * i], odds[i] = both[2 * i + 1];
    even = load(evens), odd = load(odds);
}

[[gnu::always_inline]] inline Vec load_four(const Word* from) {
    static_assert(kLanes == 4);
    return load(from);
}

template <int Index>
[[gnu::always_inline]] inline Vec spread(Vec four) {
    return splat(four.v[Index]);
}

// Lane i of what is picked is from[lanes[i]], of `fill` where lanes[i] is negative.
struct Pattern {
    const std::int32_t* lanes;
};

[[gnu::always_inline]] inline Pattern make_pattern(const std::int32_t* lanes) { return {lanes}; }

[[gnu::always_inline]] inline Vec pick(const Word* from, const Pattern& pattern, Vec fill) {
    alignas(16) Word picked[kLanes];
    store(picked, fill);
    for (int lane = 0; lane < kLanes; ++lane)
        if (pattern.lanes[lane] >= 0) picked[lane] = from[pattern.lanes[lane]];
    return load(picked);
}

struct Table {
    const Word* values;
};

[[gnu::always_inline]] inline Table make_table(const Word* from) { return {from}; }

[[gnu::always_inline]] inline Vec look_up(const Table& table, const std::uint8_t* indices) {
    alignas(16) Word found[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) found[lane] = table.values[indices[lane]];
    return load(found);
}
