// The loops of eight bits, written once. Included by one file per instruction set, after it has defined, in the same
// unnamed namespace, its vectors (avx512.hpp …) and what it does with bytes:
//
//   Ints                       a vector of int32; as_ints and as_vec of the same bits, splat_int
//   Sum, none, sum_of(Ints)    a vector's accumulators: of nothing, of what is there already
//   dot(sum, inputs, weight)   one step: in every lane four bytes of inputs, less kShift, times four of the weight
//   joined(sum, sum), total(sum)
//   float_of(Ints)
//   rounded(Vec)               to Ints, half to even; of no number beyond int32
//   clamped(t, low, high)      NaN becomes low
//   byte_of<i>(words)          byte i of every lane, as Ints
//   most(a, b)                 of every byte the larger
//   Halves, halves(a, b)       two vectors of Ints side by side in 16 bits, saturated
//   words_of(halves, halves)   four vectors of Ints as the bytes of words, saturated
//   Packing, make_packing(zero, low, high), words_of(halves, halves, packing)
//                              plus zero, then within low and high
//
// Floats are rounded after every operation: none of this may be compiled with products and sums fused.

// ---- From sums to bytes -----------------------------------------------------------------------------------------

// What becomes of numbers t: within bounds, rounded half to even, plus zero.
struct Ending {
    Vec low, high;
    Packing packing;
    bool clamps;  // before rounding; else bytes saturate behind it
    bool plain;   // saturation is all that there is to do

    [[gnu::always_inline]] Ending(float least, float largest, std::int32_t zero, bool bounded)
        : low(splat(least)), high(splat(largest)),
          packing(make_packing(zero, static_cast<int>(least) + zero, static_cast<int>(largest) + zero)),
          clamps(!bounded), plain(bounded && zero == 0 && least <= 0.0f && largest >= 255.0f) {}

    // All of a tile at once: what is known of all is asked once.
    template <int Count>
    [[gnu::always_inline]] void round(const Vec* values, Ints* results) const {
        if (clamps) {
            #pragma GCC unroll 32
            for (int t = 0; t < Count; ++t) results[t] = rounded(clamped(values[t], low, high));
            return;
        }
        #pragma GCC unroll 32
        for (int t = 0; t < Count; ++t) results[t] = rounded(values[t]);
    }

    [[gnu::always_inline]] Vec words(const Ints* four) const {
        return words_of(halves(four[0], four[1]), halves(four[2], four[3]), packing);
    }

    [[gnu::always_inline]] Vec words_of_floats(const Vec* four) const {
        Ints results[4];
        round<4>(four, results);
        return words(results);
    }
};

template <int Number>
struct Index {
    static constexpr int value = Number;
};

// Calls body(Index<i>) for i < 4, each a copy of its own.
template <typename Body>
[[gnu::always_inline]] inline void for_four(Body body) {
    body(Index<0>{}), body(Index<1>{}), body(Index<2>{}), body(Index<3>{});
}

// ---- Convolution tiles ------------------------------------------------------------------------------------------

template <int T>
[[gnu::always_inline]] inline void start(const TileRun& run, bool first, std::size_t channel, Sum* sums) {
    if (first) {
        const Sum bias = sum_of(as_ints(splat_word(run.bias + channel)));
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t) sums[t] = bias;
        return;
    }
    const Word* kept = run.sums + channel * (T * kLanes);
    #pragma GCC unroll 32
    for (int t = 0; t < T; ++t) sums[t] = sum_of(as_ints(load(kept + t * kLanes)));
}

template <int T>
[[gnu::always_inline]] inline void keep(const TileRun& run, std::size_t channel, const Ints* totals) {
    Word* kept = run.sums + channel * (T * kLanes);
    #pragma GCC unroll 32
    for (int t = 0; t < T; ++t) store(kept + t * kLanes, as_vec(totals[t]));
}

// The way of sums of a tile into bytes: every output by itself, then four of them together.
template <int T>
struct Requantiser {
    const TileRun& run;
    Ending ending;
    Sum residual_start;  // less its zero point
    Vec residual_scale;
    std::int32_t places[T];  // of vectors that are not stored: the first one's, which is stored last

    [[gnu::always_inline]] explicit Requantiser(const TileRun& tile)
        : run(tile), ending(tile.end.low, tile.end.high, tile.end.zero, tile.end.bounded),
          residual_start(sum_of(splat_int(kShift - tile.end.residual_zero))),
          residual_scale(splat(tile.end.residual_scale)) {
        for (int t = 0; t < T; ++t) places[t] = run.places[(run.valid >> t & 1) != 0 ? t : 0];
    }

    // Of the output channel + m; results may be the totals themselves.
    [[gnu::always_inline]] void round(std::size_t channel, int m, const Ints* totals, Ints* results) const {
        const Vec multiplier = splat(run.end.multipliers[channel + m]);
        Vec values[T];
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t) values[t] = times(float_of(totals[t]), multiplier);
        if (run.residual != nullptr) {
            const Word* residual = run.residual + plane(channel);
            const Vec chosen = as_vec(splat_int(1 << 8 * m));  // one of the bytes, by a dot product
            #pragma GCC unroll 32
            for (int t = 0; t < T; ++t) {
                const Ints byte = total(dot(residual_start, load(residual + places[t]), chosen));
                values[t] = plus(values[t], times(float_of(byte), residual_scale));
            }
        }
        ending.round<T>(values, results);
    }

    // The first vector last: what is not stored goes to its place before.
    template <typename Words>
    [[gnu::always_inline]] void put(std::size_t channel, Words words) const {
        Word* output = run.output + plane(channel);
        #pragma GCC unroll 32
        for (int t = T - 1; t >= 0; --t) store(output + places[t], words(t));
    }

    // Of four outputs of every vector: of the first two and of the others.
    [[gnu::always_inline]] void put(std::size_t channel, const Halves* low, const Halves* high) const {
        if (ending.plain) put(channel, [&](int t) __attribute__((always_inline)) { return words_of(low[t], high[t]); });
        else
            put(channel,
                [&](int t) __attribute__((always_inline)) { return words_of(low[t], high[t], ending.packing); });
    }

    [[gnu::always_inline]] void fill_borders(std::size_t channel) const {
        if (run.move_count > 0)
            fill(run.output + plane(channel), run.moves, run.moves + run.move_count, run.lanes, splat_word(&run.fill));
    }

    [[gnu::always_inline]] std::ptrdiff_t plane(std::size_t channel) const {
        return static_cast<std::ptrdiff_t>(channel / 4) * run.channel_stride;
    }
};

// The sums of `count` outputs, which lie in memory, as floats.
[[gnu::noinline]] void put_floats(const TileRun& run, std::size_t channel, int count, int vectors) {
    for (int m = 0; m < count && static_cast<int>(channel) + m < run.end.planes; ++m) {
        const Vec multiplier = splat(run.end.multipliers[channel + m]);
        const Word* kept = run.sums + (channel + m) * (vectors * kLanes);
        const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(channel + m) * run.channel_stride;
        for (int t = 0; t < vectors; ++t) {
            if ((run.valid >> t & 1) == 0) continue;
            Vec value = times(float_of(as_ints(load(kept + t * kLanes))), multiplier);
            if (run.residual != nullptr) value = plus(value, load(run.residual + plane + run.places[t]));
            store(run.output + plane + run.places[t], value);
        }
        if (run.move_count > 0)
            fill(run.output + plane, run.moves, run.moves + run.move_count, run.lanes, splat_word(&run.fill));
    }
}

// Where a later entry will be stored, and its residual: often in L3 or further.
template <int T>
[[gnu::always_inline]] inline void fetch_places(const TileRun& run, const Entry* later, const Entry* end, int planes) {
    if (later >= end || later->flags != kLast) return;
    constexpr int kStep = 16 / kLanes;  // vectors a line
    #pragma GCC unroll 4
    for (int m = 0; m < planes; ++m) {
        const std::ptrdiff_t base = static_cast<std::ptrdiff_t>(later->channel / 4 + m) * run.channel_stride;
        #pragma GCC unroll 32
        for (int t = 0; t < T; t += kStep) __builtin_prefetch(run.output + base + run.places[t], 1);
        if (run.residual != nullptr)
            #pragma GCC unroll 32
            for (int t = 0; t < T; t += kStep) __builtin_prefetch(run.residual + base + run.places[t]);
    }
}

// One word of weights times the vectors of a tile.
template <int Rows, int Columns>
[[gnu::always_inline]] inline void add(Sum* sums, Vec weight, const Word* inputs, std::ptrdiff_t row_step) {
    #pragma GCC unroll 32
    for (int r = 0; r < Rows; ++r)
        #pragma GCC unroll 32
        for (int c = 0; c < Columns; ++c) {
            Sum& sum = sums[r * Columns + c];
            sum = dot(sum, load(inputs + r * row_step + c * kLanes), weight);
        }
}

// What `count` words of weights add to the tile of one output. Chains: independent accumulators per vector, so that few
// vectors still fill the latency of a dot product.
template <int Rows, int Columns, int Chains>
[[gnu::always_inline]] inline void multiply(const TileRun& run, const Word*& weights, const std::uint16_t*& offsets,
                                            int count, const Sum* begun, Ints* totals) {
    constexpr int T = Rows * Columns;
    Sum sums[Chains][T];
    #pragma GCC unroll 32
    for (int chain = 0; chain < Chains; ++chain)
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t) sums[chain][t] = chain == 0 ? begun[t] : none();
    const Word* stop = weights + count;
    const auto add_one = [&](int i) __attribute__((always_inline)) {
        add<Rows, Columns>(sums[i], splat_word(weights + i), at(run.inputs, offsets[i]), run.row_step);
    };
    for (; stop - weights >= Chains; weights += Chains, offsets += Chains) {
        if constexpr (T == 1) {
            __builtin_prefetch(weights + kAhead);
            __builtin_prefetch(offsets + kAhead);
        }
        #pragma GCC unroll 8
        for (int i = 0; i < Chains; ++i) add_one(i);
    }
    if constexpr (Chains > 1)
        for (; weights != stop; ++weights, ++offsets) add_one(0);
    #pragma GCC unroll 32
    for (int chain = 1; chain < Chains; ++chain)
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t) sums[0][t] = joined(sums[0][t], sums[chain][t]);
    #pragma GCC unroll 32
    for (int t = 0; t < T; ++t) totals[t] = total(sums[0][t]);
}

// Four outputs, one after the other. What is finished is packed at once, so that it needs few registers.
template <int Rows, int Columns, int Chains>
void run_sparse(const TileRun& run) {
    constexpr int T = Rows * Columns;
    const Word* weights = run.weights;
    const std::uint16_t* offsets = run.offsets;
    const Requantiser<T> requantiser(run);
    const Entry* end = run.entries + run.entry_count;
    for (const Entry* entry = run.entries; entry != end; ++entry) {
        fetch_next<T>(run, entry + 1, end, 4);
        fetch_places<T>(run, entry + (T <= 2 ? 2 : 1), end, 1);
        const bool first = (entry->flags & kFirst) != 0, last = (entry->flags & kLast) != 0;
        const bool packs = last && !run.end.floats;
        const std::size_t channel = entry->channel;
        Halves low[T];
        // Two at a time, twice the same code: a copy for each of four fills the cache of instructions.
        for (int pair = 0; pair < 4; pair += 2) {
            Ints totals[2][T];
            #pragma GCC unroll 2
            for (int i = 0; i < 2; ++i) {
                const int m = pair + i;
                Sum sums[T];
                start<T>(run, first, channel + m, sums);
                multiply<Rows, Columns, Chains>(run, weights, offsets, entry->counts[m], sums, totals[i]);
                if (packs) requantiser.round(channel, m, totals[i], totals[i]);
                else keep<T>(run, channel + m, totals[i]);
            }
            if (!packs) continue;
            Halves high[T];
            #pragma GCC unroll 32
            for (int t = 0; t < T; ++t) high[t] = halves(totals[0][t], totals[1][t]);
            if (pair == 2) requantiser.put(channel, low, high);
            #pragma GCC unroll 32
            for (int t = 0; t < T; ++t) low[t] = high[t];
        }
        if (packs) requantiser.fill_borders(channel);
        else if (last) put_floats(run, channel, 4, T);
    }
}

// Outputs channels that use every offset of the block; the offsets are the same for every entry.
template <int Outputs, int Rows, int Columns>
void run_dense(const TileRun& run) {
    constexpr int T = Rows * Columns;
    const Word* weights = run.weights;
    const Requantiser<T> requantiser(run);
    const Entry* end = run.entries + run.entry_count;
    for (const Entry* entry = run.entries; entry != end; ++entry) {
        fetch_next<T>(run, entry + 1, end, Outputs);
        fetch_places<T>(run, entry + 1, end, Outputs / 4);
        Sum sums[Outputs][T];
        #pragma GCC unroll 32
        for (int m = 0; m < Outputs; ++m) start<T>(run, (entry->flags & kFirst) != 0, entry->channel + m, sums[m]);
        const std::uint16_t* offsets = run.offsets;
        for (int count = entry->counts[0]; count > 0; --count, weights += Outputs, ++offsets) {
            const Word* inputs = at(run.inputs, *offsets);
            if constexpr (T <= 2) __builtin_prefetch(weights + kAhead);
            if constexpr (T > Outputs) {
                Vec weight[Outputs];
                #pragma GCC unroll 32
                for (int m = 0; m < Outputs; ++m) weight[m] = splat_word(weights + m);
                #pragma GCC unroll 32
                for (int r = 0; r < Rows; ++r)
                    #pragma GCC unroll 32
                    for (int c = 0; c < Columns; ++c) {
                        const Vec input = load(inputs + r * run.row_step + c * kLanes);
                        #pragma GCC unroll 32
                        for (int m = 0; m < Outputs; ++m)
                            sums[m][r * Columns + c] = dot(sums[m][r * Columns + c], input, weight[m]);
                    }
            } else {
                Vec input[T];
                #pragma GCC unroll 32
                for (int r = 0; r < Rows; ++r)
                    #pragma GCC unroll 32
                    for (int c = 0; c < Columns; ++c)
                        input[r * Columns + c] = load(inputs + r * run.row_step + c * kLanes);
                #pragma GCC unroll 32
                for (int m = 0; m < Outputs; ++m) {
                    const Vec weight = splat_word(weights + m);
                    #pragma GCC unroll 32
                    for (int t = 0; t < T; ++t) sums[m][t] = dot(sums[m][t], input[t], weight);
                }
            }
        }
        const bool last = (entry->flags & kLast) != 0, packs = last && !run.end.floats;
        #pragma GCC unroll 32
        for (int m = 0; m < Outputs; m += 4) {
            Ints totals[4][T];
            #pragma GCC unroll 32
            for (int i = 0; i < 4; ++i)
                #pragma GCC unroll 32
                for (int t = 0; t < T; ++t) totals[i][t] = total(sums[m + i][t]);
            if (!packs) {
                #pragma GCC unroll 32
                for (int i = 0; i < 4; ++i) keep<T>(run, entry->channel + m + i, totals[i]);
                continue;
            }
            #pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) requantiser.round(entry->channel + m, i, totals[i], totals[i]);
            Halves low[T], high[T];
            #pragma GCC unroll 32
            for (int t = 0; t < T; ++t)
                low[t] = halves(totals[0][t], totals[1][t]), high[t] = halves(totals[2][t], totals[3][t]);
            requantiser.put(entry->channel + m, low, high);
            requantiser.fill_borders(entry->channel + m);
        }
        if (last && !packs) put_floats(run, entry->channel, Outputs, T);
    }
}

template <int Rows, int Columns, int Chains = 1>
constexpr TileVariant sparse() {
    return {Rows, Columns, 4, false, false, run_sparse<Rows, Columns, Chains>};
}

template <int Outputs, int Rows, int Columns>
constexpr TileVariant dense() {
    static_assert(Outputs % 4 == 0);
    return {Rows, Columns, Outputs, false, true, run_dense<Outputs, Rows, Columns>};
}

// ---- Matrix times vector ----------------------------------------------------------------------------------------

[[gnu::always_inline]] inline Vec load_some(const void* from, std::int64_t count) {
    if (count >= kLanes) return load_any(from);
    alignas(64) Word words[kLanes] = {};
    __builtin_memcpy(words, from, static_cast<std::size_t>(count) * sizeof(Word));
    return load(words);
}

inline float clamped_float(float value, float low, float high) {
    value = value > low ? value : low;  // low where it is NaN
    return value < high ? value : high;
}

// Half to even, of what is smaller than 2²².
inline std::int32_t nearest(float value) { return __builtin_bit_cast(std::int32_t, value + 12582912.0f) - 0x4b400000; }

inline std::uint8_t byte_of_float(float value, float low, float high, std::int32_t zero) {
    return static_cast<std::uint8_t>(nearest(clamped_float(value, low, high)) + zero);
}

// The product of loops that move words (streams.hpp).
struct ByteProduct {
    using Sum = secateur::Sum;

    [[gnu::always_inline]] static Sum none() { return secateur::none(); }
    [[gnu::always_inline]] static Sum start_lanes(const Word* bias) { return sum_of(as_ints(load(bias))); }
    [[gnu::always_inline]] static Sum add(Vec weight, Vec input, Sum sum) { return dot(sum, input, weight); }
    [[gnu::always_inline]] static Sum joined(Sum sum, Sum other) { return secateur::joined(sum, other); }

    template <typename Run>
    [[gnu::always_inline]] static void finish_slice(const Run& run, const Multiplied& vector, int slice, Sum sum) {
        const Requantisation& end = run.end;
        const int first = slice * kLanes, count = run.rows - first < kLanes ? run.rows - first : kLanes;
        Vec values = times(float_of(total(sum)), load_some(end.multipliers + first, count));
        if (end.floats) {
            if (vector.residual != nullptr) values = plus(values, load_some(vector.residual + first, count));
            return store_some(vector.output + first, values, count);
        }
        alignas(64) std::uint8_t bytes[kLanes] = {};
        alignas(64) std::int32_t ints[kLanes];
        if (vector.residual != nullptr) {
            alignas(64) float added[kLanes];
            copy_bytes(bytes, reinterpret_cast<const std::uint8_t*>(vector.residual) + first, count);
            for (int lane = 0; lane < kLanes; ++lane)
                added[lane] = static_cast<float>(bytes[lane] - end.residual_zero) * end.residual_scale;
            values = plus(values, load(added));
        }
        store(ints, as_vec(rounded(clamped(values, splat(end.low), splat(end.high)))));
        for (int lane = 0; lane < kLanes; ++lane) bytes[lane] = static_cast<std::uint8_t>(ints[lane] + end.zero);
        copy_bytes(reinterpret_cast<std::uint8_t*>(vector.output) + first, bytes, count);
    }

   private:
    [[gnu::always_inline]] static void copy_bytes(std::uint8_t* to, const std::uint8_t* from, int count) {
        if (count == kLanes) __builtin_memcpy(to, from, kLanes);
        else
            for (int i = 0; i < count; ++i) to[i] = from[i];
    }
};

// ---- Between floats and bytes -----------------------------------------------------------------------------------

[[gnu::always_inline]] inline void store_rest(void* to, Vec a, std::int64_t count) {
    store_some(to, a, count < kLanes ? static_cast<int>(count) : kLanes);
}

void quantise(const Quantising& run) {
    const Ending ending(run.low, run.high, run.zero, false);
    const Vec inverse = splat(run.inverse);
    for (std::int64_t i = 0; i < run.count; i += kLanes) {
        Vec values[4];
        #pragma GCC unroll 4
        for (int m = 0; m < 4; ++m) values[m] = times(load_some(run.planes[m] + i, run.count - i), inverse);
        store_rest(run.words + i, ending.words_of_floats(values), run.count - i);
    }
}

void dequantise(const Dequantising& run) {
    const Vec scale = splat(run.scale), zero = splat(static_cast<float>(run.zero));
    for (std::int64_t i = 0; i < run.count; i += kLanes) {
        const Vec words = load_some(run.words + i, run.count - i);
        for_four([&](auto index) __attribute__((always_inline)) {
            constexpr int m = decltype(index)::value;
            if (run.planes[m] == nullptr) return;
            const Vec value = times(minus(float_of(byte_of<m>(words)), zero), scale);
            store_rest(run.planes[m] + i, value, run.count - i);
        });
    }
}

void quantise_line(const LineQuantising& run) {
    const Ending ending(run.low, run.high, run.zero, false);
    const Vec inverse = splat(run.inverse);
    std::int64_t i = 0;
    for (; i + 4 * kLanes <= run.count; i += 4 * kLanes) {  // byte m of word k is number 4 · k + m
        Vec given[4], even[2], odd[2], values[4];
        #pragma GCC unroll 4
        for (int m = 0; m < 4; ++m) given[m] = times(load_any(run.floats + i + m * kLanes), inverse);
        part(given[0], given[1], even[0], odd[0]), part(given[2], given[3], even[1], odd[1]);
        part(even[0], even[1], values[0], values[2]), part(odd[0], odd[1], values[1], values[3]);
        store_any(run.bytes + i, ending.words_of_floats(values));
    }
    for (; i < run.count; ++i) run.bytes[i] = byte_of_float(run.floats[i] * run.inverse, run.low, run.high, run.zero);
}

void dequantise_line(const LineDequantising& run) {
    const float scale = run.scale;
    const std::int32_t zero = run.zero;
    for (std::int64_t i = 0; i < run.count; ++i) run.floats[i] = static_cast<float>(run.bytes[i] - zero) * scale;
}

// ---- Pairs ------------------------------------------------------------------------------------------------------

// Function(index, left, right): byte number index of both, as float32.
template <typename Function>
[[gnu::always_inline]] inline void run_pairs(const BytePairs& run, Function function) {
    const Ending ending(run.low, run.high, run.zero, false);
    const Vec every_left = splat_word(run.left), every_right = splat_word(run.right);
    const Vec left_zero = splat(static_cast<float>(run.left_zero)),
              right_zero = splat(static_cast<float>(run.right_zero));
    for (std::int64_t i = 0; i < run.count; i += kLanes) {
        const Vec left = run.left_step == 0 ? every_left : load_some(run.left + i, run.count - i);
        const Vec right = run.right_step == 0 ? every_right : load_some(run.right + i, run.count - i);
        Vec values[4];
        for_four([&](auto index) __attribute__((always_inline)) {
            constexpr int m = decltype(index)::value;
            values[m] =
                function(minus(float_of(byte_of<m>(left)), left_zero), minus(float_of(byte_of<m>(right)), right_zero));
        });
        store_rest(run.target + i, ending.words_of_floats(values), run.count - i);
    }
}

void add_bytes(const BytePairs& run) {
    const Vec left_scale = splat(run.left_scale), right_scale = splat(run.right_scale);
    run_pairs(run, [&](Vec left, Vec right) __attribute__((always_inline)) {
        return plus(times(left, left_scale), times(right, right_scale));
    });
}

// The product of two numbers of nine bits is exact.
void multiply_bytes(const BytePairs& run) {
    const Vec scale = splat(run.left_scale);
    run_pairs(run,
              [&](Vec left, Vec right) __attribute__((always_inline)) { return times(times(left, right), scale); });
}

#include "byte_pooling.hpp"

// ---- A table of them --------------------------------------------------------------------------------------------

template <int Variants>
constexpr Bytes byte_table(bool narrow, const Cycles& cycles, const Costs& costs,
                           const TileVariant (&variants)[Variants]) {
    return {narrow,
            kShift,
            cycles,
            costs,
            variants,
            Variants,
            sparse_vector<ByteProduct>,
            dense_vector<ByteProduct>,
            quantise,
            dequantise,
            quantise_line,
            dequantise_line,
            add_bytes,
            multiply_bytes,
            pool_bytes};
}
