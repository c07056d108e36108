// Pooling of planes whose rows lie as they are, of words that hold whatever a Pooling makes of them: included by both
// pooling.hpp and byte_pooling.hpp.

// The first element of a window at or behind the edge of the image.
inline int within(int start, int dilation) {
    return start >= 0 ? start : start + (-start + dilation - 1) / dilation * dilation;
}

constexpr int kPoolBuffer = 4096;

// Floats from row to row of the buffer: a vector before the image, and what the last vector of outputs reads.
inline int pool_pitch(const PoolRun& run) {
    const int outputs = (run.out_width + kLanes - 1) / kLanes * kLanes;
    const int read = outputs * run.stride_x + run.kernel_x + 2 * kLanes, kept = run.width + 2 * kLanes;
    return ((read > kept ? read : kept) + kLanes - 1) / kLanes * kLanes;
}

// Whether pool_rows can do it.
inline bool pools_by_rows(const PoolRun& run) {
    return run.images == 1 && run.source_column == 1 && run.target_column == 1 && run.stride_x <= 2 &&
           run.dilation_x == 1 && run.left <= kLanes && pool_pitch(run) <= kPoolBuffer;
}

// Rows of one image, columns contiguous: over the rows of each window first, into a buffer whose ends stand for what
// lies beside the image (Pooling::empty), then over its columns. A mean's windows count kernel_y × kernel_x elements each.
template <typename Pooling>
void pool_rows(const Pooling& pooling, const PoolRun& run, const Word* source, Word* target, Word* buffer) {
    const int pitch = pool_pitch(run), band = kPoolBuffer / pitch;
    const Vec empty = splat_word(&pooling.empty);
    for (int first = 0; first < run.out_height; first += band) {
        const int last = first + band < run.out_height ? first + band : run.out_height;
        for (int y = first; y < last; ++y) {
            const int top = y * run.stride_y - run.top, bottom = top + run.kernel_y * run.dilation_y;
            const int y0 = within(top, run.dilation_y), y1 = bottom < run.height ? bottom : run.height;
            Word* row = buffer + (y - first) * pitch + kLanes;
            for (int x = 0; x < run.width; x += kLanes) {
                Vec value = empty;
                for (int i = y0; i < y1; i += run.dilation_y)
                    value = pooling.joined(value, load_any(source + i * run.source_row + x));
                store(row + x, value);
            }
            for (int x = run.width; x % kLanes != 0; ++x) row[x] = pooling.empty;
        }
        for (int y = first; y < last; ++y) {
            const Word* row = buffer + (y - first) * pitch + kLanes - run.left;
            for (int x = 0; x < run.out_width; x += kLanes) {
                Vec value = empty;
                for (int k = 0; k < run.kernel_x; k += run.stride_x) {
                    const Word* from = row + x * run.stride_x + k;
                    if (run.stride_x == 1) {
                        value = pooling.joined(value, load_any(from));
                        continue;
                    }
                    Vec even, odd;
                    part(load_any(from), load_any(from + kLanes), even, odd);
                    value = pooling.joined(value, even);
                    if (k + 1 < run.kernel_x) value = pooling.joined(value, odd);
                }
                store_some(target + y * run.target_row + x, pooling.finished(value), run.out_width - x);
            }
        }
    }
}

template <typename Pooling>
void pool_planes_by_rows(const Pooling& pooling, const PoolRun& run) {
    alignas(64) Word buffer[kPoolBuffer];
    for (int i = 0; i < kPoolBuffer; i += kLanes) store(buffer + i, splat_word(&pooling.empty));
    for (int c = 0; c < run.channels; ++c)
        pool_rows(pooling, run, as_words(run.source) + c * run.source_channel,
                  as_words(run.target) + c * run.target_channel, buffer);
}
