// What a step of a recurrent network makes of its gates, each `count` numbers. Included behind exponential.hpp.

template <typename Step>
[[gnu::always_inline]] inline void for_vectors(std::int64_t count, Step step) {
    for (std::int64_t i = 0; i < count; i += kLanes) step(i, static_cast<int>(count - i < kLanes ? count - i : kLanes));
}

// Gate `index` before its function: what the step was given and what was fed back.
[[gnu::always_inline]] inline Vec gate(const GateRun& run, int index, std::int64_t i) {
    return plus(load_any(run.given + index * run.count + i), load_any(run.fed + index * run.count + i));
}

void step_lstm(const GateRun& run) {
    for_vectors(run.count, [&](std::int64_t i, int some) __attribute__((always_inline)) {
        const Vec kept = times(sigmoid(gate(run, 1, i)), load_any(run.cell + i));
        const Vec cell = fused(sigmoid(gate(run, 0, i)), tangent(gate(run, 2, i)), kept);
        store_some(run.hidden + run.count + i, cell, some);
        store_some(run.hidden + i, times(sigmoid(gate(run, 3, i)), tangent(cell)), some);
    });
}

void step_gru(const GateRun& run) {
    for_vectors(run.count, [&](std::int64_t i, int some) __attribute__((always_inline)) {
        const Vec reset = sigmoid(gate(run, 0, i)), kept = sigmoid(gate(run, 1, i));
        const Vec fed = load_any(run.fed + 2 * run.count + i), given = load_any(run.given + 2 * run.count + i);
        const Vec fresh = tangent(fused(reset, fed, given));
        store_some(run.hidden + i, fused(kept, minus(load_any(run.before + i), fresh), fresh), some);
    });
}

void step_tanh(const GateRun& run) {
    for_vectors(run.count, [&](std::int64_t i, int some) __attribute__((always_inline)) {
        store_some(run.hidden + i, tangent(gate(run, 0, i)), some);
    });
}

void step_relu(const GateRun& run) {
    for_vectors(run.count, [&](std::int64_t i, int some) __attribute__((always_inline)) {
        store_some(run.hidden + i, larger(splat(0.0f), gate(run, 0, i)), some);
    });
}
