// Products of two values, and what lies between those of attention: written once, included behind exponential.hpp. Before it
// stand kTileRows × kTileVectors and kImageRows × kImageColumns, the vectors of sums that the registers hold.

// Sums of a tile, in the order of what is summed whatever the tile, so that every split gives the same bits. Rows and columns
// beyond the last are the last once more. Images: an element is a vector of them; else columns are the lanes of vectors.
template <int Rows, int Columns, bool Images>
[[gnu::always_inline]] inline void multiply_tile(const ProductRun& run, const float* panel, int row, int column,
                                                 Vec (&sums)[Rows][Columns]) {
    const float *left[Rows], *right[Columns];
    #pragma GCC unroll 32
    for (int r = 0; r < Rows; ++r) left[r] = run.left + (row + r < run.rows ? row + r : run.rows - 1) * run.left_row;
    #pragma GCC unroll 32
    for (int c = 0; c < Columns; ++c)
        right[c] = Images ? panel + (column + c < run.columns ? column + c : run.columns - 1) * run.right_column
                          : panel + c * kLanes;
    #pragma GCC unroll 32
    for (int r = 0; r < Rows; ++r)
        #pragma GCC unroll 32
        for (int c = 0; c < Columns; ++c) sums[r][c] = splat(0.0f);
    std::ptrdiff_t at_left = 0, at_right = 0;
    for (int k = 0; k < run.length; ++k, at_left += run.left_step, at_right += run.right_step) {
        Vec across[Columns];
        #pragma GCC unroll 32
        for (int c = 0; c < Columns; ++c) across[c] = load_any((Images ? right[c] : right[0] + c * kLanes) + at_right);
        #pragma GCC unroll 32
        for (int r = 0; r < Rows; ++r) {
            const Vec down = Images ? load_any(left[r] + at_left) : splat(left[r][at_left]);
            #pragma GCC unroll 32
            for (int c = 0; c < Columns; ++c) sums[r][c] = fused(down, across[c], sums[r][c]);
        }
    }
}

template <int Rows, int Columns>
[[gnu::always_inline]] inline void multiply_rows(const ProductRun& run, const float* panel, int row, int first) {
    Vec sums[Rows][Columns];
    multiply_tile<Rows, Columns, false>(run, panel, row, 0, sums);
    for (int r = 0; r < Rows && row + r < run.rows; ++r) {
        float* to = run.target + (row + r) * run.target_row + first;
        const Vec factor = splat(run.factors == nullptr ? 1.0f : run.factors[row + r]);
        #pragma GCC unroll 32
        for (int c = 0; c < Columns; ++c) {
            const int left = run.columns - first - c * kLanes;
            if (left <= 0) continue;
            Vec made = times(factor, sums[r][c]);
            if (run.column_factors != nullptr) made = times(load_any(run.column_factors + first + c * kLanes), made);
            if (left >= kLanes) store_any(to + c * kLanes, made);
            else store_some(to + c * kLanes, made, left);
        }
    }
}

void multiply(const ProductRun& run) {
    const float* panel = run.right;
    for (int first = 0; first < run.columns; first += kTileVectors * kLanes, panel += run.right_column) {
        int row = 0;
        for (; row + 1 < run.rows; row += kTileRows) multiply_rows<kTileRows, kTileVectors>(run, panel, row, first);
        if (row < run.rows) multiply_rows<1, kTileVectors>(run, panel, row, first);
    }
}

void multiply_images(const ProductRun& run) {
    for (int column = 0; column < run.columns; column += kImageColumns)
        for (int row = 0; row < run.rows; row += kImageRows) {
            Vec sums[kImageRows][kImageColumns];
            multiply_tile<kImageRows, kImageColumns, true>(run, run.right, row, column, sums);
            for (int r = 0; r < kImageRows && row + r < run.rows; ++r) {
                float* to = run.target + (row + r) * run.target_row + column * run.target_column;
                const Vec factor = run.factors == nullptr ? splat(1.0f) : load_any(run.factors + (row + r) * kLanes);
                #pragma GCC unroll 32
                for (int c = 0; c < kImageColumns; ++c)
                    if (column + c < run.columns) store_any(to + c * run.target_column, times(factor, sums[r][c]));
            }
        }
}

// ---- Softmax ----------------------------------------------------------------------------------------------------

constexpr float kMostNegative = -3.4028234663852886e38f;

// What joins the lanes of each of kLanes vectors, side by side.
template <typename Join>
[[gnu::always_inline]] inline Vec across_lanes(const float* vectors, Join join) {
    alignas(64) float turned[kLanes * kLanes];
    for (int i = 0; i < kLanes; i += kSquare)
        for (int j = 0; j < kLanes; j += kSquare)
            transpose_square(as_words(vectors + i * kLanes + j), kLanes, as_words(turned + j * kLanes + i), kLanes);
    Vec joined = load(turned);
    for (int lane = 1; lane < kLanes; ++lane) joined = join(joined, load(turned + lane * kLanes));
    return joined;
}

// One row: of the lanes, what they are to have taken off, and then the sum of their powers. Images: every element is a
// vector of them.
template <bool Images>
[[gnu::always_inline]] inline Vec most_of(const SoftmaxRun& run, float* scores, const float* added) {
    const Vec scale = splat(run.scale);
    const int count = Images ? run.count * kLanes : run.count;
    const auto scaled = [=](int i) __attribute__((always_inline)) {
        const Vec score = times(scale, load_any(scores + i));
        return added == nullptr ? score : plus(score, load_any(added + i));
    };
    Vec most = splat(kMostNegative);
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const Vec score = scaled(i);
        store_any(scores + i, score);
        most = largest(most, score);
    }
    if (!Images && i < count) {
        store_any(scores + i, scaled(i));
        for (int beyond = count; beyond < i + kLanes; ++beyond) scores[beyond] = -INFINITY;
        most = largest(most, load_any(scores + i));
    }
    return most;
}

template <bool Images>
[[gnu::always_inline]] inline Vec raise(const SoftmaxRun& run, float* scores, Vec most) {
    Vec sum = splat(0.0f);
    for (int i = 0; i < (Images ? run.count * kLanes : run.count); i += kLanes) {
        const Vec power = Exponential(minus(load_any(scores + i), most)).value();
        store_any(scores + i, power);
        sum = plus(sum, power);
    }
    return sum;
}

[[gnu::always_inline]] inline Vec factor_of(Vec sum) { return over(splat(1.0f), larger(splat(1e-30f), sum)); }

template <bool Images>
void soften(const SoftmaxRun& run) {
    const auto scores = [&](int row) __attribute__((always_inline)) { return run.scores + row * run.row; };
    const auto added = [&](int row) __attribute__((always_inline)) {
        return run.added == nullptr ? nullptr : run.added + row * run.row;
    };
    if constexpr (Images) {
        for (int row = 0; row < run.rows; ++row) {
            const Vec most = most_of<true>(run, scores(row), added(row));
            store_any(run.factors + row * kLanes, factor_of(raise<true>(run, scores(row), most)));
        }
        return;
    }
    alignas(64) float kept[kLanes * kLanes] = {}, most[kLanes];
    for (int first = 0; first < run.rows; first += kLanes) {
        const int some = run.rows - first < kLanes ? run.rows - first : kLanes;
        for (int row = 0; row < some; ++row)
            store(kept + row * kLanes, most_of<false>(run, scores(first + row), added(first + row)));
        store(most, across_lanes(kept, [](Vec a, Vec b) { return largest(a, b); }));
        for (int row = 0; row < some; ++row)
            store(kept + row * kLanes, raise<false>(run, scores(first + row), splat(most[row])));
        store_some(run.factors + first, factor_of(across_lanes(kept, [](Vec a, Vec b) { return plus(a, b); })), some);
    }
}

// Vectors of columns from `column` on.
template <int Vectors>
[[gnu::always_inline]] inline void soften_some(const ColumnSoftmaxRun& run, int column) {
    const Vec scale = splat(run.scale);
    Vec most[Vectors], sums[Vectors];
    #pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) most[v] = splat(kMostNegative), sums[v] = splat(0.0f);
    // visit(v, place, score) of a row.
    const auto visit_row = [&](int i, auto visit) __attribute__((always_inline)) {
        float* scores = run.scores + i * run.row + column;
        const float* added = run.added == nullptr ? nullptr : run.added + i * run.added_row;
        #pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
            float* place = scores + v * kLanes;
            const Vec score = load_any(place);
            if (added == nullptr) visit(v, place, times(scale, score));
            else if (run.added_column == 0) visit(v, place, fused(scale, score, splat(*added)));
            else visit(v, place, fused(scale, score, load_any(added + column + v * kLanes)));
        }
    };
    for (int i = 0; i < run.rows; ++i)
        visit_row(i,
                  [&](int v, float*, Vec score) __attribute__((always_inline)) { most[v] = largest(most[v], score); });
    for (int i = 0; i < run.rows; ++i)
        visit_row(i, [&](int v, float* place, Vec score) __attribute__((always_inline)) {
            const Vec power = Exponential(minus(score, most[v])).value();
            store_any(place, power);
            sums[v] = plus(sums[v], power);
        });
    #pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store_any(run.factors + column + v * kLanes, factor_of(sums[v]));
}

void soften_columns(const ColumnSoftmaxRun& run) {
    int column = 0;
    for (; column + 4 * kLanes <= run.columns; column += 4 * kLanes) soften_some<4>(run, column);
    for (; column < run.columns; column += kLanes) soften_some<1>(run, column);
}
