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

// ---- Matrix times vectors ---------------------------------------------------------------------------------------
//
// Count vectors at once, of which only `some` are others: the last stands for those that are missing.

template <int Count>
struct Several {
    Multiplied each[Count];

    Several(const Multiplied* vectors, int some) {
        for (int v = 0; v < Count; ++v) each[v] = vectors[v < some ? v : some - 1];
    }
};

template <typename Product, int Count, typename Run>
[[gnu::always_inline]] inline void finish_slices(const Run& run, const Several<Count>& vectors, int some, int slice,
                                                 const typename Product::Sum (&sums)[Count]) {
    #pragma GCC unroll 8
    for (int v = 0; v < Count; ++v)
        if (v < some) Product::finish_slice(run, vectors.each[v], slice, sums[v]);
}

template <typename Product, int Count>
void sparse_vectors(const SliceRun& run, const Multiplied* given, int some) {
    const Several<Count> vectors(given, some);
    const Word* weights = run.weights;
    const std::uint8_t* indices = run.indices;
    const std::uint16_t* counts = run.counts;
    for (int slice = 0; slice < run.slices; ++slice) {
        typename Product::Sum even[Count], odd[Count];
        #pragma GCC unroll 8
        for (int v = 0; v < Count; ++v)
            even[v] = Product::start_lanes(run.bias + slice * kLanes), odd[v] = Product::none();
        for (int window = 0; window < run.windows; ++window) {
            int count = *counts++;
            Table tables[Count];
            #pragma GCC unroll 8
            for (int v = 0; v < Count; ++v) tables[v] = make_table(vectors.each[v].input + window * kWindowStep);
            const auto step = [&](typename Product::Sum* sums) __attribute__((always_inline)) {
                const Vec weight = load(weights);
                #pragma GCC unroll 8
                for (int v = 0; v < Count; ++v) sums[v] = Product::add(weight, look_up(tables[v], indices), sums[v]);
                weights += kLanes, indices += kLanes;
            };
            for (; count >= 2; count -= 2) step(even), step(odd);
            if (count > 0) step(even);
        }
        #pragma GCC unroll 8
        for (int v = 0; v < Count; ++v) even[v] = Product::joined(even[v], odd[v]);
        finish_slices<Product, Count>(run, vectors, some, slice, even);
    }
}

// Every vector has four chains of sums; of many vectors two of them at a time, which registers hold.
template <typename Product, int Count>
void dense_vectors(const DenseVectorRun& run, const Multiplied* given, int some) {
    constexpr int kChains = 4, kAtOnce = Count < 4 ? 4 : 2;
    const Several<Count> vectors(given, some);
    for (int slice = 0; slice < run.slices; ++slice) {
        const Word* weights = run.weights + static_cast<std::size_t>(slice) * run.length * kLanes;
        typename Product::Sum totals[Count];
        #pragma GCC unroll 2
        for (int first = 0; first < kChains; first += kAtOnce) {
            typename Product::Sum sums[kAtOnce][Count];
            #pragma GCC unroll 4
            for (int chain = 0; chain < kAtOnce; ++chain)
                #pragma GCC unroll 8
                for (int v = 0; v < Count; ++v)
                    sums[chain][v] =
                        first + chain == 0 ? Product::start_lanes(run.bias + slice * kLanes) : Product::none();
            const auto add = [&](int i, typename Product::Sum* to) __attribute__((always_inline)) {
                const Word* from = weights + static_cast<std::size_t>(i) * kLanes;
                if constexpr (Count > 1) __builtin_prefetch(from + kAhead);
                const Vec weight = Count > 1 ? load_kept(from) : load(from);
                #pragma GCC unroll 8
                for (int v = 0; v < Count; ++v)
                    to[v] = Product::add(weight, splat_word(vectors.each[v].input + i), to[v]);
            };
            int i = 0;
            for (; i + kChains <= run.length; i += kChains)
                #pragma GCC unroll 4
                for (int chain = 0; chain < kAtOnce; ++chain) add(i + first + chain, sums[chain]);
            for (; first == 0 && i < run.length; ++i) add(i, sums[0]);
            #pragma GCC unroll 2
            for (int chain = 0; chain < kAtOnce; chain += 2)
                #pragma GCC unroll 8
                for (int v = 0; v < Count; ++v) {
                    const auto pair = Product::joined(sums[chain][v], sums[chain + 1][v]);
                    totals[v] = first + chain == 0 ? pair : Product::joined(totals[v], pair);
                }
        }
        finish_slices<Product, Count>(run, vectors, some, slice, totals);
    }
}

template <int Value>
struct Constant {
    static constexpr int value = Value;
};

// multiply(count, vectors, some) for as many vectors at a time as registers have room for: some of `count`, a constant.
template <typename Run, typename Multiply>
[[gnu::always_inline]] inline void for_vectors_of(const Run& run, Multiply multiply) {
    for (int first = 0; first < run.count; first += kVectors) {
        const Multiplied* vectors = run.vectors + first;
        const int left = run.count - first, some = left < kVectors ? left : kVectors;
        if (some == 1) multiply(Constant<1>(), vectors, some);
        else if (some == 2) multiply(Constant<2>(), vectors, some);
        else if constexpr (kVectors > 2) {
            if (some <= 4) multiply(Constant<4>(), vectors, some);
            else if constexpr (kVectors > 4) multiply(Constant<kVectors>(), vectors, some);
        }
    }
}

template <typename Product>
void sparse_vector(const SliceRun& run) {
    for_vectors_of(run, [&](auto count, const Multiplied* vectors, int some) {
        sparse_vectors<Product, decltype(count)::value>(run, vectors, some);
    });
}

template <typename Product>
void dense_vector(const DenseVectorRun& run) {
    for_vectors_of(run, [&](auto count, const Multiplied* vectors, int some) {
        dense_vectors<Product, decltype(count)::value>(run, vectors, some);
    });
}
