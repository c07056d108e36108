// Winograd's transform of 3×3 convolutions, F(M×M, 3×3) (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
// Networks"), from the values at the points 0, ±1 and ∞ (M = 2) or 0, ±√½, ±√2 and ∞ (M = 4): these come twice as near
// to the truth as 0, ±1, ±2 and ∞ (docs/performance.md). A vector holds one pixel of as many images, or parts of one,
// as it has lanes, so that every step works lane by lane. Included behind loops.hpp.

constexpr float kRootHalf = 0.70710678118654752f, kRootTwo = 1.41421356237309505f;

// Bᵀ times a column of inputs.
template <int M>
[[gnu::always_inline]] inline void forward(const Vec* d, Vec* v) {
    if constexpr (M == 2) {
        v[0] = minus(d[0], d[2]), v[1] = plus(d[1], d[2]), v[2] = minus(d[2], d[1]), v[3] = minus(d[1], d[3]);
    } else {
        const Vec two_less = splat(-2.0f), half_less = splat(-0.5f), sum_less = splat(-2.5f);
        const Vec near = splat(kRootHalf), near_less = splat(-kRootHalf), far = splat(kRootTwo),
                  far_less = splat(-kRootTwo);
        const Vec near_even = fused(two_less, d[2], d[4]), near_odd = fused(two_less, d[1], d[3]);
        const Vec far_even = fused(half_less, d[2], d[4]), far_odd = fused(half_less, d[1], d[3]);
        v[0] = fused(sum_less, d[2], plus(d[0], d[4])), v[5] = fused(sum_less, d[3], plus(d[1], d[5]));
        v[1] = fused(near, near_odd, near_even), v[2] = fused(near_less, near_odd, near_even);
        v[3] = fused(far, far_odd, far_even), v[4] = fused(far_less, far_odd, far_even);
    }
}

// Aᵀ times a column of products.
template <int M>
[[gnu::always_inline]] inline void backward(const Vec* m, Vec* y) {
    if constexpr (M == 2) {
        y[0] = plus(plus(m[0], m[1]), m[2]), y[1] = minus(minus(m[1], m[2]), m[3]);
    } else {
        const Vec near = plus(m[1], m[2]), near_difference = minus(m[1], m[2]);
        const Vec far = plus(m[3], m[4]), far_difference = minus(m[3], m[4]);
        y[0] = plus(plus(m[0], near), far);
        y[1] = fused(splat(kRootHalf), near_difference, times(splat(kRootTwo), far_difference));
        y[2] = fused(splat(0.5f), near, times(splat(2.0f), far));
        y[3] = fused(splat(kRootHalf / 2), near_difference, fused(splat(kRootTwo * 2), far_difference, m[5]));
    }
}

// Whole: all of the tile lies within the image.
template <int M, bool Whole>
void transform_inputs_of(const WinogradInputs& run) {
    constexpr int S = M + 2;
    for (int c = 0; c < run.channels; ++c) {
        const float* source = run.source + c * run.channel;
        float* target = run.target + c * run.target_channel;
        Vec half[S][S];
        #pragma GCC unroll 6
        for (int i = 0; i < S; ++i) {
            Vec line[S];
            #pragma GCC unroll 6
            for (int j = 0; j < S; ++j) {
                const bool inside = Whole || (i >= run.top && i < run.bottom && j >= run.left && j < run.right);
                line[j] = inside ? load(source + i * run.row + j * run.column) : splat(0.0f);
            }
            forward<M>(line, half[i]);
        }
        #pragma GCC unroll 6
        for (int j = 0; j < S; ++j) {
            Vec line[S], all[S];
            #pragma GCC unroll 6
            for (int i = 0; i < S; ++i) line[i] = half[i][j];
            forward<M>(line, all);
            #pragma GCC unroll 6
            for (int i = 0; i < S; ++i) store(target + (i * S + j) * run.frequency, all[i]);
        }
    }
}

template <int M>
void transform_inputs(const WinogradInputs& run) {
    const bool whole = run.top == 0 && run.left == 0 && run.bottom == M + 2 && run.right == M + 2;
    if (whole) transform_inputs_of<M, true>(run);
    else transform_inputs_of<M, false>(run);
}

template <int M>
void transform_outputs(const WinogradOutputs& run) {
    constexpr int S = M + 2;
    const Vec low = splat(run.low), high = splat(run.high);
    const bool whole = run.rows == M && run.columns == M;
    for (int o = 0; o < run.outputs; ++o) {
        const float* products = run.products + o * run.product;
        Vec half[M][S];
        #pragma GCC unroll 6
        for (int j = 0; j < S; ++j) {
            Vec line[S], some[M];
            #pragma GCC unroll 6
            for (int i = 0; i < S; ++i) line[i] = load(products + (i * S + j) * run.frequency);
            backward<M>(line, some);
            #pragma GCC unroll 6
            for (int i = 0; i < M; ++i) half[i][j] = some[i];
        }
        const Vec bias = splat(run.bias[o]);
        float* output = run.output + o * run.channel;
        const float* residual = run.residual == nullptr ? nullptr : run.residual + o * run.channel;
        #pragma GCC unroll 6
        for (int i = 0; i < M; ++i) {
            Vec line[M];
            backward<M>(half[i], line);
            #pragma GCC unroll 6
            for (int j = 0; j < M; ++j) {
                if (!whole && (i >= run.rows || j >= run.columns)) continue;
                const std::ptrdiff_t place = i * run.row + j * run.column;
                Vec sum = plus(line[j], bias);
                if (residual != nullptr) sum = plus(sum, load(residual + place));
                store(output + place, smaller(high, larger(low, sum)));
            }
        }
        if (run.move_count > 0) fill(as_words(output), run.moves, run.moves + run.move_count, run.lanes, splat(0.0f));
    }
}

// Outputs × Columns sums at a time of [outputs][channels] · [channels][columns], each over the channels in their order.
template <int Outputs, int Columns>
void multiply(const WinogradProducts& run) {
    const float* weights = run.weights;
    float* products = run.products;
    for (int group = 0; group < run.groups; ++group, products += Outputs * Columns * kLanes) {
        Vec sums[Outputs][Columns];
        #pragma GCC unroll 32
        for (int m = 0; m < Outputs; ++m)
            #pragma GCC unroll 32
            for (int n = 0; n < Columns; ++n) sums[m][n] = splat(0.0f);
        const float* inputs = run.inputs;
        for (int c = 0; c < run.channels; ++c, weights += Outputs, inputs += Columns * kLanes) {
            Vec input[Columns];
            #pragma GCC unroll 32
            for (int n = 0; n < Columns; ++n) input[n] = load(inputs + n * kLanes);
            #pragma GCC unroll 32
            for (int m = 0; m < Outputs; ++m) {
                const Vec weight = splat(weights[m]);
                #pragma GCC unroll 32
                for (int n = 0; n < Columns; ++n) sums[m][n] = fused(weight, input[n], sums[m][n]);
            }
        }
        #pragma GCC unroll 32
        for (int m = 0; m < Outputs; ++m)
            #pragma GCC unroll 32
            for (int n = 0; n < Columns; ++n) store(products + (m * Columns + n) * kLanes, sums[m][n]);
    }
}

template <int Outputs, int Columns>
constexpr WinogradProduct product() {
    return {Outputs, Columns, multiply<Outputs, Columns>};
}

constexpr WinogradTransform kTransforms[] = {
    {2, transform_inputs<2>, transform_outputs<2>},
    {4, transform_inputs<4>, transform_outputs<4>},
};
