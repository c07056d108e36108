// Numbers less their mean and over their deviation: included behind loops.hpp.

[[gnu::always_inline]] inline Vec inverse_root(Vec a, float epsilon) {
    alignas(64) float numbers[kLanes];
    store(numbers, a);
    for (int i = 0; i < kLanes; ++i) numbers[i] = 1.0f / sqrtf(numbers[i] + epsilon);
    return load(numbers);
}

// Four sums, so that they need not wait for one another, and err less.
template <typename Term>
[[gnu::always_inline]] inline Vec sum_of(std::int64_t count, Term term) {
    Vec sums[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        #pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) sums[j] = plus(sums[j], term(i + j));
    for (; i < count; ++i) sums[0] = plus(sums[0], term(i));
    return plus(plus(sums[0], sums[1]), plus(sums[2], sums[3]));
}

[[gnu::always_inline]] inline float sum_of_lanes(Vec a) {
    alignas(64) float numbers[kLanes];
    store(numbers, a);
    float sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += numbers[i];
    return sum;
}

// Rows whose features lie side by side.
void normalise_rows(const NormaliseRun& run) {
    const float share = 1.0f / static_cast<float>(run.features);
    const std::int64_t whole = run.features / kLanes;
    for (std::int64_t row = 0; row < run.rows; ++row) {
        const float* from = run.source + row * run.row;
        float* to = run.target + row * run.row;
        float sum = sum_of_lanes(
            sum_of(whole, [=](std::int64_t i) __attribute__((always_inline)) { return load_any(from + i * kLanes); }));
        for (std::int64_t i = whole * kLanes; i < run.features; ++i) sum += from[i];
        const float mean = sum * share;
        float square = sum_of_lanes(sum_of(whole, [=](std::int64_t i) __attribute__((always_inline)) {
            const Vec apart = minus(load_any(from + i * kLanes), splat(mean));
            return times(apart, apart);
        }));
        for (std::int64_t i = whole * kLanes; i < run.features; ++i) square += (from[i] - mean) * (from[i] - mean);
        const float scale = 1.0f / sqrtf(square * share + run.epsilon);
        for (std::int64_t i = 0; i < run.features; ++i) {
            const float scaled = (from[i] - mean) * scale * (run.weight == nullptr ? 1.0f : run.weight[i]);
            to[i] = run.bias == nullptr ? scaled : scaled + run.bias[i];
        }
    }
}

void normalise_planes(const NormaliseRun& run) {
    const Vec share = splat(1.0f / static_cast<float>(run.features));
    for (std::int64_t row = 0; row < run.rows; row += kLanes) {
        const float* from = run.source + row;
        float* to = run.target + row;
        const int some = static_cast<int>(run.rows - row < kLanes ? run.rows - row : kLanes);
        const auto number = [=](std::int64_t i)
                                __attribute__((always_inline)) { return load_any(from + i * run.plane); };
        const Vec mean = times(share, sum_of(run.features, number));
        const Vec square = sum_of(run.features, [=](std::int64_t i) __attribute__((always_inline)) {
            const Vec apart = minus(number(i), mean);
            return times(apart, apart);
        });
        const Vec scale = inverse_root(times(share, square), run.epsilon);
        for (std::int64_t i = 0; i < run.features; ++i) {
            const Vec given = times(minus(number(i), mean), scale);
            const Vec scaled = run.weight == nullptr ? given : times(given, splat(run.weight[i]));
            store_some(to + i * run.plane, run.bias == nullptr ? scaled : plus(scaled, splat(run.bias[i])), some);
        }
    }
}
