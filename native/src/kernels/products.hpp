// What tiles and vector products compute: a parameter of their loops (loops.hpp), which move words and know nothing of
// what is in them. A weight is one 32-bit word of a stream, an input is a vector of words. A product defines
//
//   Sum                        a vector's accumulators
//   none()                     of nothing: where another chain begins
//   start(bias, index), start_lanes(bias)  from the bias of one output, of as many outputs as there are lanes
//   resume(kept), keep(kept, sum)          from and to memory, between blocks of inputs
//   add(weight, input, sum)    one step, lane by lane
//   joined(sum, other)         of two chains
//   plane(channel)             of the tile's output: which plane of words the channel lies in
//   Finish                     of one channel of a tile: adds the residual, clamps, stores
//   finish_slice               the same of a slice of a vector product
//
// That of bytes (bytes.hpp) defines what vector products need. Its tiles have loops of their own: four outputs, finished one
// after the other, become one plane of words.

struct FloatProduct {
    using Sum = Vec;

    [[gnu::always_inline]] static Sum none() { return splat(0.0f); }
    [[gnu::always_inline]] static Sum start(const Word* bias, std::size_t index) { return splat_word(bias + index); }
    [[gnu::always_inline]] static Sum start_lanes(const Word* bias) { return load(bias); }
    [[gnu::always_inline]] static Sum resume(const Word* kept) { return load(kept); }
    [[gnu::always_inline]] static void keep(Word* kept, Sum sum) { store(kept, sum); }
    [[gnu::always_inline]] static Sum add(Vec weight, Vec input, Sum sum) { return fused(weight, input, sum); }
    [[gnu::always_inline]] static Sum joined(Sum sum, Sum other) { return plus(sum, other); }
    [[gnu::always_inline]] static std::ptrdiff_t plane(std::size_t channel) {
        return static_cast<std::ptrdiff_t>(channel);
    }

    struct Finish {
        Vec low, high;

        [[gnu::always_inline]] Finish(const TileRun& run, std::size_t) : low(splat(run.low)), high(splat(run.high)) {}
        [[gnu::always_inline]] void put(Word* to, Sum sum) const { store(to, smaller(high, larger(low, sum))); }
        [[gnu::always_inline]] void put(Word* to, Sum sum, const Word* residual) const {
            put(to, plus(sum, load(residual)));
        }
    };

    template <typename Run>
    [[gnu::always_inline]] static void finish_slice(const Run& run, const Multiplied& vector, int slice, Sum sum) {
        const int first = slice * kLanes, count = run.rows - first < kLanes ? run.rows - first : kLanes;
        if (vector.residual != nullptr) sum = plus(sum, load_any(vector.residual + first));
        store_some(vector.output + first, smaller(splat(run.high), larger(splat(run.low), sum)), count);
    }
};
