// Pooling, written once for every kernel: included behind loops.hpp, whose primitives it uses.

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

// The first element of a window at or behind the edge of the image.
inline int within(int start, int dilation) {
    return start >= 0 ? start : start + (-start + dilation - 1) / dilation * dilation;
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

constexpr int kPoolBuffer = 4096;

// Floats from row to row of the buffer: a vector before the image, and what the last vector of outputs reads.
inline int pool_pitch(const PoolRun& run) {
    const int outputs = (run.out_width + kLanes - 1) / kLanes * kLanes;
    const int read = outputs * run.stride_x + run.kernel_x + 2 * kLanes, kept = run.width + 2 * kLanes;
    return ((read > kept ? read : kept) + kLanes - 1) / kLanes * kLanes;
}

// Whether every window is divided by the same count.
inline bool whole_windows(const PoolRun& run) {
    const bool padded = run.top > 0 || run.bottom > 0 || run.left > 0 || run.right > 0;
    return (run.count_padding || !padded) &&
           (run.out_height - 1) * run.stride_y + (run.kernel_y - 1) * run.dilation_y <
               run.height + run.top + run.bottom &&
           (run.out_width - 1) * run.stride_x + (run.kernel_x - 1) * run.dilation_x < run.width + run.left + run.right;
}

// Rows of one image, columns contiguous: over the rows of each window first, into a buffer whose ends stand for what
// lies beside the image, then over its columns. Every window counts kernel_y × kernel_x elements.
template <bool Average>
void pool_rows(const PoolRun& run, const float* source, float* target, float* buffer) {
    const int pitch = pool_pitch(run), band = kPoolBuffer / pitch;
    const Vec empty = splat(Average ? 0.0f : -INFINITY),
              scale = splat(1.0f / static_cast<float>(run.kernel_y * run.kernel_x));
    const auto joined = [](Vec a, Vec b)
                            __attribute__((always_inline)) { return Average ? plus(a, b) : largest(a, b); };
    for (int first = 0; first < run.out_height; first += band) {
        const int last = first + band < run.out_height ? first + band : run.out_height;
        for (int y = first; y < last; ++y) {
            const int top = y * run.stride_y - run.top, bottom = top + run.kernel_y * run.dilation_y;
            const int y0 = within(top, run.dilation_y), y1 = bottom < run.height ? bottom : run.height;
            float* row = buffer + (y - first) * pitch + kLanes;
            for (int x = 0; x < run.width; x += kLanes) {
                Vec value = empty;
                for (int i = y0; i < y1; i += run.dilation_y)
                    value = joined(value, load_any(source + i * run.source_row + x));
                store(row + x, value);
            }
            for (int x = run.width; x % kLanes != 0; ++x) row[x] = Average ? 0.0f : -INFINITY;
        }
        for (int y = first; y < last; ++y) {
            const float* row = buffer + (y - first) * pitch + kLanes - run.left;
            for (int x = 0; x < run.out_width; x += kLanes) {
                Vec value = empty;
                for (int k = 0; k < run.kernel_x; k += run.stride_x) {
                    const float* from = row + x * run.stride_x + k;
                    if (run.stride_x == 1) {
                        value = joined(value, load_any(from));
                        continue;
                    }
                    Vec even, odd;
                    part(load_any(from), load_any(from + kLanes), even, odd);
                    value = joined(value, even);
                    if (k + 1 < run.kernel_x) value = joined(value, odd);
                }
                if (Average) value = times(value, scale);
                store_some(target + y * run.target_row + x, value, run.out_width - x);
            }
        }
    }
}

void pool(const PoolRun& run) {
    const bool rows = run.images == 1 && run.source_column == 1 && run.target_column == 1 && run.stride_x <= 2 &&
                      run.dilation_x == 1 && run.left <= kLanes && pool_pitch(run) <= kPoolBuffer &&
                      (!run.average || whole_windows(run));
    alignas(64) float buffer[kPoolBuffer];
    for (int i = 0; rows && i < kPoolBuffer; i += kLanes) store(buffer + i, splat(run.average ? 0.0f : -INFINITY));
    for (int c = 0; c < run.channels; ++c) {
        const float* source = run.source + c * run.source_channel;
        float* target = run.target + c * run.target_channel;
        if (!rows) pool_pixels(run, source, target);
        else if (run.average) pool_rows<true>(run, source, target, buffer);
        else pool_rows<false>(run, source, target, buffer);
    }
}
