// Pooling, written once for every kernel: included behind loops.hpp, whose primitives it uses.

#include "pool_rows.hpp"

// One output pixel of a window [y0, y1) × [x0, x1) that lies within the image, in steps of the dilation.
template <bool Average>
[[gnu::always_inline]] inline void pool_pixel(const PoolRun& run, const float* source, float* target, int y0, int y1,
                                              int x0, int x1, float scale) {
    int i = 0;
    const auto window = [&](auto&& visit) __attribute__((always_inline)) {
        for (int y = y0; y < y1; y += run.dilation_y)
            for (int x = x0; x < x1; x += run.dilation_x)
                visit(source + y * run.source_row + x * run.source_column + i);
    };
    for (; i + kLanes <= run.images; i += kLanes) {
        Vec value = splat(Average ? 0.0f : -INFINITY);
        window([&](const float* from) __attribute__((always_inline)) {
            value = Average ? plus(value, load(from)) : largest(value, load(from));
        });
        store(target + i, Average ? times(value, splat(scale)) : value);
    }
    for (; i < run.images; ++i) {
        float value = Average ? 0.0f : -INFINITY;
        window([&](const float* from) __attribute__((always_inline)) {
            value = Average ? value + *from : (value > *from || value != value ? value : *from);
        });
        target[i] = Average ? value * scale : value;
    }
}

void pool_pixels(const PoolRun& run, const float* source, float* target) {
    for (int y = 0; y < run.out_height; ++y) {
        const int top = y * run.stride_y - run.top, bottom = top + (run.kernel_y - 1) * run.dilation_y + 1;
        const int y0 = within(top, run.dilation_y), y1 = bottom < run.height ? bottom : run.height;
        const int high = bottom < run.height + run.bottom ? bottom : run.height + run.bottom;
        for (int x = 0; x < run.out_width; ++x) {
            const int left = x * run.stride_x - run.left, right = left + (run.kernel_x - 1) * run.dilation_x + 1;
            const int x0 = within(left, run.dilation_x), x1 = right < run.width ? right : run.width;
            const int wide = right < run.width + run.right ? right : run.width + run.right;
            float* to = target + y * run.target_row + x * run.target_column;
            if (run.average) {
                const int area = run.count_padding ? (high - top) * (wide - left) : (y1 - y0) * (x1 - x0);
                pool_pixel<true>(run, source, to, y0, y1, x0, x1, 1.0f / static_cast<float>(area));
            } else {
                pool_pixel<false>(run, source, to, y0, y1, x0, x1, 0.0f);
            }
        }
    }
}

// Whether every window is divided by the same count.
inline bool whole_windows(const PoolRun& run) {
    const bool padded = run.top > 0 || run.bottom > 0 || run.left > 0 || run.right > 0;
    return (run.count_padding || !padded) &&
           (run.out_height - 1) * run.stride_y + (run.kernel_y - 1) * run.dilation_y <
               run.height + run.top + run.bottom &&
           (run.out_width - 1) * run.stride_x + (run.kernel_x - 1) * run.dilation_x < run.width + run.left + run.right;
}

struct Largest {
    Word empty = as_word(-INFINITY);
    [[gnu::always_inline]] static Vec joined(Vec a, Vec b) { return largest(a, b); }
    [[gnu::always_inline]] static Vec finished(Vec value) { return value; }
};

struct Mean {
    Vec scale;
    Word empty{0};
    [[gnu::always_inline]] static Vec joined(Vec a, Vec b) { return plus(a, b); }
    [[gnu::always_inline]] Vec finished(Vec value) const { return times(value, scale); }
};

void pool(const PoolRun& run) {
    if (pools_by_rows(run) && !run.average) return pool_planes_by_rows(Largest{}, run);
    if (pools_by_rows(run) && whole_windows(run))
        return pool_planes_by_rows(Mean{splat(1.0f / static_cast<float>(run.kernel_y * run.kernel_x))}, run);
    for (int c = 0; c < run.channels; ++c)
        pool_pixels(run, run.source + c * run.source_channel, run.target + c * run.target_channel);
}
