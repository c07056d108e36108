// What loops of floats (loops.hpp) and of bytes (bytes.hpp) have alike: they move words, whatever is in them. Included by both.

// The border of one plane, or of one tile in it; moves of the same pattern lie together.
[[gnu::always_inline]] inline void fill(Word* plane, const BorderMove* move, const BorderMove* end,
                                        const std::int32_t* lanes, Vec beyond) {
    while (move != end) {
        const std::int32_t kind = move->pattern;
        const Pattern pattern = make_pattern(lanes + kind * kLanes);
        for (; move != end && move->pattern == kind; ++move)
            store(plane + move->target, pick(plane + move->source, pattern, beyond));
    }
}

// The accumulators of the entry after this one, on their way from L2 while this one is computed.
template <int T>
[[gnu::always_inline]] inline void fetch_next(const TileRun& run, const Entry* next, const Entry* end, int outputs) {
    if (next == end || (next->flags & kFirst) != 0) return;
    const char* kept = reinterpret_cast<const char*>(run.sums + std::size_t{next->channel} * (T * kLanes));
    for (int line = 0; line < T * kLanes * outputs / 16; ++line) __builtin_prefetch(kept + 64 * line, 1);
}

[[gnu::always_inline]] inline const Word* at(const Word* inputs, std::uint64_t offset) { return inputs + offset * 2; }

constexpr int kAhead = 256;  // non-zeros; small tiles read streams faster than they are fetched unasked

// ---- Matrix times vector ----------------------------------------------------------------------------------------

template <typename Product>
void sparse_vector(const SliceRun& run) {
    const Word* weights = run.weights;
    const std::uint8_t* indices = run.indices;
    const std::uint16_t* counts = run.counts;
    for (int slice = 0; slice < run.slices; ++slice) {
        auto even = Product::start_lanes(run.bias + slice * kLanes), odd = Product::none();
        for (int block = 0; block < run.blocks; ++block) {
            int count = *counts++;
            const Table table = make_table(run.inputs + block * kTable);
            for (; count >= 2; count -= 2, weights += 2 * kLanes, indices += 2 * kLanes) {
                even = Product::add(load(weights), look_up(table, indices), even);
                odd = Product::add(load(weights + kLanes), look_up(table, indices + kLanes), odd);
            }
            if (count > 0) {
                even = Product::add(load(weights), look_up(table, indices), even);
                weights += kLanes, indices += kLanes;
            }
        }
        Product::finish_slice(run, slice, Product::joined(even, odd));
    }
}

template <typename Product>
void dense_vector(const DenseVectorRun& run) {
    constexpr int kChains = 4;
    for (int slice = 0; slice < run.slices; ++slice) {
        const Word* weights = run.weights + static_cast<std::size_t>(slice) * run.length * kLanes;
        typename Product::Sum sums[kChains];
        sums[0] = Product::start_lanes(run.bias + slice * kLanes);
        for (int chain = 1; chain < kChains; ++chain) sums[chain] = Product::none();
        int i = 0;
        for (; i + kChains <= run.length; i += kChains)
            for (int chain = 0; chain < kChains; ++chain)
                sums[chain] = Product::add(load(weights + static_cast<std::size_t>(i + chain) * kLanes),
                                           splat_word(run.inputs + i + chain), sums[chain]);
        for (; i < run.length; ++i)
            sums[0] =
                Product::add(load(weights + static_cast<std::size_t>(i) * kLanes), splat_word(run.inputs + i), sums[0]);
        Product::finish_slice(run, slice,
                              Product::joined(Product::joined(sums[0], sums[1]), Product::joined(sums[2], sums[3])));
    }
}
