// Pooling of words of four bytes, written once for every kernel: included by bytes.hpp.

#include "pool_rows.hpp"

// Words of a window that lie in the image: rows [y0, y1), columns [x0, x1), in steps of the dilation.
struct Window {
    int y0, y1, x0, x1;
};

inline int steps(int begin, int end, int step) { return end > begin ? (end - begin + step - 1) / step : 0; }

template <typename Visit>
[[gnu::always_inline]] inline void visit(const PoolRun& run, const Window& window, const Word* source,
                                         Visit visit_one) {
    for (int y = window.y0; y < window.y1; y += run.dilation_y)
        for (int x = window.x0; x < window.x1; x += run.dilation_x)
            visit_one(source + y * run.source_row + x * run.source_column);
}

void largest_words(const PoolRun& run, const Window& window, const Word* source, Word* target) {
    for (int i = 0; i < run.images; i += kLanes) {
        Vec value = splat(0.0f);
        visit(run, window, source + i, [&](const Word* from) __attribute__((always_inline)) {
            value = most(value, run.images == 1 ? splat_word(from) : load_some(from, run.images - i));
        });
        store_rest(target + i, value, run.images - i);
    }
}

// Of one image: sums of a word's even and odd bytes, two to a word, which 256 pixels do not fill.
void mean_word(const BytePool& pool, const Window& window, float factor, const Word* source, Word* target) {
    constexpr std::uint32_t kEven = 0x00ff00ff;
    std::uint32_t even = 0, odd = 0, sums[4] = {};
    int pixels = 0;
    const auto flush = [&]() __attribute__((always_inline)) {
        sums[0] += even & 0xffff, sums[2] += even >> 16, sums[1] += odd & 0xffff, sums[3] += odd >> 16;
        even = odd = 0;
    };
    visit(pool.pool, window, source, [&](const Word* from) __attribute__((always_inline)) {
        even += from->bits & kEven, odd += from->bits >> 8 & kEven;
        if ((++pixels & 255) == 0) flush();
    });
    flush();
    std::uint32_t bits = 0;
    for (int m = 0; m < 4; ++m) {
        const float total = static_cast<float>(static_cast<std::int32_t>(sums[m]) - pixels * pool.input_zero);
        bits |= std::uint32_t{byte_of_float(total * factor, pool.low, pool.high, pool.zero)} << 8 * m;
    }
    *target = {bits};
}

void mean_words(const BytePool& pool, const Ending& ending, const Window& window, float factor, const Word* source,
                Word* target) {
    const PoolRun& run = pool.pool;
    if (run.images == 1) return mean_word(pool, window, factor, source, target);
    const int inside = steps(window.y0, window.y1, run.dilation_y) * steps(window.x0, window.x1, run.dilation_x);
    const Ints nothing = splat_int(-inside * pool.input_zero);
    for (int i = 0; i < run.images; i += kLanes) {
        Ints sums[4] = {nothing, nothing, nothing, nothing};
        visit(run, window, source + i, [&](const Word* from) __attribute__((always_inline)) {
            const Vec words = load_some(from, run.images - i);
            for_four([&](auto index) __attribute__((always_inline)) {
                constexpr int m = decltype(index)::value;
                sums[m] = plus_ints(sums[m], byte_of<m>(words));
            });
        });
        Vec values[4];
        #pragma GCC unroll 4
        for (int m = 0; m < 4; ++m) values[m] = times(float_of(sums[m]), splat(factor));
        store_rest(target + i, ending.words_of_floats(values), run.images - i);
    }
}

struct LargestBytes {
    Word empty{0};
    [[gnu::always_inline]] static Vec joined(Vec a, Vec b) { return most(a, b); }
    [[gnu::always_inline]] static Vec finished(Vec value) { return value; }
};

void pool_bytes(const BytePool& pool) {
    const PoolRun& run = pool.pool;
    if (pools_by_rows(run) && !run.average) return pool_planes_by_rows(LargestBytes{}, run);
    const Ending ending(pool.low, pool.high, pool.zero, false);
    for (int c = 0; c < run.channels; ++c) {
        const Word* source = as_words(run.source) + c * run.source_channel;
        for (int y = 0; y < run.out_height; ++y) {
            const int top = y * run.stride_y - run.top, bottom = top + (run.kernel_y - 1) * run.dilation_y + 1;
            const int high = bottom < run.height + run.bottom ? bottom : run.height + run.bottom;
            for (int x = 0; x < run.out_width; ++x) {
                const int left = x * run.stride_x - run.left, right = left + (run.kernel_x - 1) * run.dilation_x + 1;
                const int wide = right < run.width + run.right ? right : run.width + run.right;
                const Window window{within(top, run.dilation_y), bottom < run.height ? bottom : run.height,
                                    within(left, run.dilation_x), right < run.width ? right : run.width};
                Word* target =
                    as_words(run.target) + c * run.target_channel + y * run.target_row + x * run.target_column;
                if (!run.average) {
                    largest_words(run, window, source, target);
                    continue;
                }
                const int area = run.count_padding ? (high - top) * (wide - left)
                                                   : (window.y1 - window.y0) * (window.x1 - window.x0);
                mean_words(pool, ending, window, pool.factors[area], source, target);
            }
        }
    }
}
