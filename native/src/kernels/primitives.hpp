// What every kernel has alike, before its own primitives.

// Of a piece of a row: every stride-th word from `from` on where the mask has a bit, `fill` elsewhere.
[[gnu::always_inline]] inline void pack_words(const Word* from, std::uint64_t mask, int stride, int width, Word fill,
                                              Word* to) {
    for (int x = 0; x < width; ++x) to[x] = (mask >> x * stride & 1) != 0 ? from[x * stride] : fill;
}
