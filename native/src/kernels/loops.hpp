// The loops of floats of every kernel, written once. Included by one file per instruction set, after it has defined, in the
// same unnamed namespace:
//
//   kLanes, Vec, load, store, store_some (the first lanes, at any address), splat, fused (a·b + c), plus, minus,
//   times, larger (NaN of the second wins), smaller, largest (NaN of either wins),
//   Pattern, make_pattern, pick (lanes of a vector, or what fills), Table, make_table, look_up, transpose_square (kSquare × kSquare).
//
// No function of the standard library that could stay a function may be used here (check.cmake).

#include "streams.hpp"

#include "products.hpp"

// ---- Convolution tiles ------------------------------------------------------------------------------------------

template <typename Product, int T>
[[gnu::always_inline]] inline void start(const TileRun& run, bool first, std::size_t channel,
                                         typename Product::Sum* sums) {
    if (first) {
        const auto bias = Product::start(run.bias, channel);
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t) sums[t] = bias;
        return;
    }
    const Word* kept = run.sums + channel * (T * kLanes);
    #pragma GCC unroll 32
    for (int t = 0; t < T; ++t) sums[t] = Product::resume(kept + t * kLanes);
}

template <typename Product, int T>
[[gnu::always_inline]] inline void finish(const TileRun& run, bool last, std::size_t channel,
                                          const typename Product::Sum* sums) {
    if (!last) {
        Word* kept = run.sums + channel * (T * kLanes);
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t) Product::keep(kept + t * kLanes, sums[t]);
        return;
    }
    const std::ptrdiff_t base = Product::plane(channel) * run.channel_stride;
    const typename Product::Finish end(run, channel);
    Word* output = run.output + base;
    constexpr std::uint32_t all = T == 32 ? ~0u : (1u << T) - 1;
    if (run.residual != nullptr) {
        const Word* residual = run.residual + base;
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t)
            if (run.valid == all || (run.valid >> t & 1) != 0)
                end.put(output + run.places[t], sums[t], residual + run.places[t]);
    } else if (run.valid == all) {
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t) end.put(output + run.places[t], sums[t]);
    } else {
        #pragma GCC unroll 32
        for (int t = 0; t < T; ++t)
            if ((run.valid >> t & 1) != 0) end.put(output + run.places[t], sums[t]);
    }
    if (run.move_count > 0) fill(output, run.moves, run.moves + run.move_count, run.lanes, splat_word(&run.fill));
}

// Where a later entry will be stored, and its residual: often in L3 or further.
template <typename Product, int T>
[[gnu::always_inline]] inline void fetch_places(const TileRun& run, const Entry* later, const Entry* end, int outputs) {
    if (later >= end || later->flags != kLast) return;
    constexpr int kStep = 16 / kLanes;  // vectors a line
    #pragma GCC unroll 32
    for (int m = 0; m < outputs; ++m) {
        const std::ptrdiff_t base = Product::plane(later->channel + m) * run.channel_stride;
        #pragma GCC unroll 32
        for (int t = 0; t < T; t += kStep) __builtin_prefetch(run.output + base + run.places[t], 1);
        if (run.residual != nullptr)
            #pragma GCC unroll 32
            for (int t = 0; t < T; t += kStep) __builtin_prefetch(run.residual + base + run.places[t]);
    }
}

// One non-zero weight times the vectors of a tile.
template <typename Product, int Rows, int Columns>
[[gnu::always_inline]] inline void add(typename Product::Sum* sums, Vec weight, const Word* inputs,
                                       std::ptrdiff_t row_step) {
    #pragma GCC unroll 32
    for (int r = 0; r < Rows; ++r)
        #pragma GCC unroll 32
        for (int c = 0; c < Columns; ++c) {
            auto& sum = sums[r * Columns + c];
            sum = Product::add(weight, load(inputs + r * row_step + c * kLanes), sum);
        }
}

// One output channel at a time. Chains: independent accumulators per vector, so that few vectors still fill the
// latency of a multiply-add.
template <typename Product, int Rows, int Columns, int Chains>
void run_sparse(const TileRun& run) {
    constexpr int T = Rows * Columns;
    const Word* weights = run.weights;
    const std::uint16_t* offsets = run.offsets;
    const Entry* end = run.entries + run.entry_count;
    for (const Entry* entry = run.entries; entry != end; ++entry) {
        fetch_next<T>(run, entry + 1, end, 1);
        fetch_places<Product, T>(run, entry + (T <= 2 ? 6 : 2), end, 1);
        typename Product::Sum sums[Chains][T];
        start<Product, T>(run, (entry->flags & kFirst) != 0, entry->channel, sums[0]);
        #pragma GCC unroll 32
        for (int chain = 1; chain < Chains; ++chain)
            #pragma GCC unroll 32
            for (int t = 0; t < T; ++t) sums[chain][t] = Product::none();
        const Word* stop = weights + entry->counts[0];
        const auto add_one = [&](int chain, Vec weight, std::uint64_t offset) __attribute__((always_inline)) {
            add<Product, Rows, Columns>(sums[chain % Chains], weight, at(run.inputs, offset), run.row_step);
        };
        // Four at a time: one load for four weights and one for four offsets leave the load ports to the inputs.
        for (; stop - weights >= 4; weights += 4, offsets += 4) {
            if constexpr (T == 1) {
                __builtin_prefetch(weights + kAhead);
                __builtin_prefetch(offsets + kAhead);
            }
            const Vec four = load_four(weights);
            std::uint64_t packed;
            __builtin_memcpy(&packed, offsets, sizeof packed);
            add_one(0, spread<0>(four), packed & 0xffff);
            add_one(1, spread<1>(four), packed >> 16 & 0xffff);
            add_one(2, spread<2>(four), packed >> 32 & 0xffff);
            add_one(3, spread<3>(four), packed >> 48);
        }
        for (; weights != stop; ++weights, ++offsets) add_one(0, splat_word(weights), *offsets);
        #pragma GCC unroll 32
        for (int chain = 1; chain < Chains; ++chain)
            #pragma GCC unroll 32
            for (int t = 0; t < T; ++t) sums[0][t] = Product::joined(sums[0][t], sums[chain][t]);
        finish<Product, T>(run, (entry->flags & kLast) != 0, entry->channel, sums[0]);
    }
}

// Two output channels that share the load of every input that both need: one loop per pattern of who needs it.
template <typename Product, int Rows, int Columns>
void run_paired(const TileRun& run) {
    constexpr int T = Rows * Columns;
    const Word* weights = run.weights;
    const std::uint16_t* offsets = run.offsets;
    const Entry* end = run.entries + run.entry_count;
    for (const Entry* entry = run.entries; entry != end; ++entry) {
        fetch_next<T>(run, entry + 1, end, 2);
        fetch_places<Product, T>(run, entry + 1, end, 2);
        typename Product::Sum one[T], two[T];
        const bool first = (entry->flags & kFirst) != 0, last = (entry->flags & kLast) != 0;
        start<Product, T>(run, first, entry->channel, one);
        start<Product, T>(run, first, entry->channel + 1, two);
        const auto alone = [&](typename Product::Sum* sums, int count) __attribute__((always_inline)) {
            for (; count > 0; --count, ++weights, ++offsets)
                add<Product, Rows, Columns>(sums, splat_word(weights), at(run.inputs, *offsets), run.row_step);
        };
        alone(one, entry->counts[0]);
        alone(two, entry->counts[1]);
        for (int count = entry->counts[2]; count > 0; --count, weights += 2, ++offsets) {
            const Vec weight_one = splat_word(weights), weight_two = splat_word(weights + 1);
            const Word* inputs = at(run.inputs, *offsets);
            #pragma GCC unroll 32
            for (int r = 0; r < Rows; ++r)
                #pragma GCC unroll 32
                for (int c = 0; c < Columns; ++c) {
                    const Vec input = load_kept(inputs + r * run.row_step + c * kLanes);
                    one[r * Columns + c] = Product::add(weight_one, input, one[r * Columns + c]);
                    two[r * Columns + c] = Product::add(weight_two, input, two[r * Columns + c]);
                }
        }
        finish<Product, T>(run, last, entry->channel, one);
        finish<Product, T>(run, last, entry->channel + 1, two);
    }
}

// Outputs channels that use every offset of the block; the offsets are the same for every entry.
template <typename Product, int Outputs, int Rows, int Columns>
void run_dense(const TileRun& run) {
    constexpr int T = Rows * Columns;
    const Word* weights = run.weights;
    const Entry* end = run.entries + run.entry_count;
    for (const Entry* entry = run.entries; entry != end; ++entry) {
        fetch_next<T>(run, entry + 1, end, Outputs);
        fetch_places<Product, T>(run, entry + 1, end, Outputs);
        typename Product::Sum sums[Outputs][T];
        #pragma GCC unroll 32
        for (int m = 0; m < Outputs; ++m)
            start<Product, T>(run, (entry->flags & kFirst) != 0, entry->channel + m, sums[m]);
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
                        const Vec input = load_kept(inputs + r * run.row_step + c * kLanes);
                        #pragma GCC unroll 32
                        for (int m = 0; m < Outputs; ++m)
                            sums[m][r * Columns + c] = Product::add(weight[m], input, sums[m][r * Columns + c]);
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
                    for (int t = 0; t < T; ++t) sums[m][t] = Product::add(weight, input[t], sums[m][t]);
                }
            }
        }
        #pragma GCC unroll 32
        for (int m = 0; m < Outputs; ++m)
            finish<Product, T>(run, (entry->flags & kLast) != 0, entry->channel + m, sums[m]);
    }
}

template <int Rows, int Columns, int Chains = 1>
constexpr TileVariant sparse() {
    return {Rows, Columns, 1, false, false, run_sparse<FloatProduct, Rows, Columns, Chains>};
}

template <int Rows, int Columns>
constexpr TileVariant paired() {
    return {Rows, Columns, 2, true, false, run_paired<FloatProduct, Rows, Columns>};
}

template <int Outputs, int Rows, int Columns>
constexpr TileVariant dense() {
    return {Rows, Columns, Outputs, false, true, run_dense<FloatProduct, Outputs, Rows, Columns>};
}

// ---- Packing ----------------------------------------------------------------------------------------------------

template <int Vectors>
[[gnu::always_inline]] inline void copy_pixels(const Word* source, std::ptrdiff_t step, Word* target, int pixels) {
    for (int pixel = 0; pixel < pixels; ++pixel)
        for (int v = 0; v < Vectors; ++v)
            store(target + (pixel * Vectors + v) * kLanes, load(source + pixel * step + v * kLanes));
}

void pack_pixels(const PixelPack& pack) {
    const Vec fill = splat_word(&pack.fill);
    const int vectors = pack.width / kLanes;
    for (int channel = 0; channel < pack.channels; ++channel) {
        const Word* source = pack.source + channel * pack.source_stride;
        Word* target = pack.target + channel * pack.target_stride;
        for (const PixelPiece* piece = pack.pieces; piece != pack.pieces + pack.piece_count; ++piece) {
            Word* to = target + piece->target;
            if (piece->source == kZeros) {
                for (int v = 0; v < piece->pixels * vectors; ++v) store(to + v * kLanes, fill);
            } else if (vectors == 1) {
                copy_pixels<1>(source + piece->source, pack.step, to, piece->pixels);
            } else if (vectors == 2) {
                copy_pixels<2>(source + piece->source, pack.step, to, piece->pixels);
            } else {
                for (int pixel = 0; pixel < piece->pixels; ++pixel)
                    for (int v = 0; v < vectors; ++v)
                        store(to + (pixel * vectors + v) * kLanes,
                              load(source + piece->source + pixel * pack.step + v * kLanes));
            }
        }
    }
}

void pack_rows(const RowPack& pack) {
    for (int channel = 0; channel < pack.channels; ++channel) {
        const Word* source = pack.source + channel * pack.source_stride;
        Word* target = pack.target + channel * pack.target_stride;
        for (const RowPiece* piece = pack.pieces; piece != pack.pieces + pack.piece_count; ++piece)
            pack_piece(pack, *piece, source + piece->source, target + piece->target);
    }
}

// ---- Everything else --------------------------------------------------------------------------------------------

constexpr std::int64_t kLine = 16;  // words of a cache line

void transpose(const Word* source, std::ptrdiff_t source_row, Word* target, std::ptrdiff_t target_row,
               std::int64_t rows, std::int64_t columns) {
    const std::int64_t whole_rows = rows / kSquare * kSquare, whole_columns = columns / kSquare * kSquare;
    // Squares of whole cache lines on either side.
    for (std::int64_t at = 0; at < whole_columns; at += kLine)
        for (std::int64_t first = 0; first < whole_rows; first += kLine)
            for (std::int64_t j = at; j < at + kLine && j < whole_columns; j += kSquare)
                for (std::int64_t i = first; i < first + kLine && i < whole_rows; i += kSquare)
                    transpose_square(source + i * source_row + j, source_row, target + j * target_row + i, target_row);
    for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j)
            target[j * target_row + i] = source[i * source_row + j];
}

inline float bounded(float value, float low, float high) {
    value = low > value ? low : value;
    return high < value ? high : value;
}

void affine(const float* source, std::ptrdiff_t channel_stride, const float* scale, const float* shift, float low,
            float high, float* target, std::int64_t channels, std::int64_t count) {
    for (std::int64_t c = 0; c < channels; ++c) {
        const float factor = scale[c], addend = shift[c];
        const float* from = source + c * channel_stride;
        float* to = target + c * channel_stride;
        for (std::int64_t i = 0; i < count; ++i) to[i] = bounded(from[i] * factor + addend, low, high);
    }
}

void blend(const BlendRun& run) {
    const float *first = run.rows[0], share = run.shares[0];
    float* target = run.target;
    for (std::int64_t i = 0; i < run.length; ++i) target[i] = share * first[i];
    for (int k = 1; k < run.count; ++k) {
        const float *row = run.rows[k], part = run.shares[k];
        for (std::int64_t i = 0; i < run.length; ++i) target[i] += part * row[i];
    }
}

template <int Taps>
[[gnu::always_inline]] inline void resample_row(const ResampleRun& run) {
    const float *source = run.source, *shares = run.shares;
    const std::int32_t* sources = run.sources;
    float* target = run.target;
    const std::int64_t count = run.count;
    for (std::int64_t x = 0; x < count; ++x) {
        float sum = shares[x] * source[sources[x]];
        #pragma GCC unroll 4
        for (int k = 1; k < Taps; ++k) sum += shares[k * count + x] * source[sources[k * count + x]];
        target[x] = sum;
    }
}

void resample(const ResampleRun& run) {
    if (run.images == 1) {
        if (run.taps == 1) return resample_row<1>(run);
        return run.taps == 2 ? resample_row<2>(run) : resample_row<4>(run);
    }
    for (std::int64_t x = 0; x < run.count; ++x) {
        float* target = run.target + x * run.images;
        for (int k = 0; k < run.taps; ++k) {
            const float* source = run.source + static_cast<std::int64_t>(run.sources[k * run.count + x]) * run.images;
            const float share = run.shares[k * run.count + x];
            if (k == 0)
                for (int i = 0; i < run.images; ++i) target[i] = share * source[i];
            else
                for (int i = 0; i < run.images; ++i) target[i] += share * source[i];
        }
    }
}

// ---- Borders of folded planes -----------------------------------------------------------------------------------

void fill_border(const BorderRun& run) {
    for (int plane = 0; plane < run.count; ++plane)
        fill(run.planes + plane * run.stride, run.moves, run.moves + run.move_count, run.lanes, splat_word(&run.fill));
}
