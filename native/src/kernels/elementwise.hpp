// Functions of one element and of two, each an entry of a table, written once for every kernel: included behind loops.hpp.
//
// Of libm only functions that are called by name (expf, log1p of a double): see loops.hpp.

template <typename Function>
[[gnu::always_inline]] inline float apply(Function function, float x, const double* parameters) {
    if constexpr (requires { function(x, parameters[0], parameters[1]); }) return function(x, parameters[0], parameters[1]);
    else if constexpr (requires { function(x, parameters[0]); }) return function(x, parameters[0]);
    else return function(x);
}

template <typename Function>
void run_unary(const double* parameters, const float* source, float* target, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) target[i] = apply(Function{}, source[i], parameters);
}

// parameters: the attributes that the function takes behind the element.
template <typename Function>
constexpr UnaryFunction unary(const char* name, Function, const char* first = nullptr, const char* second = nullptr) {
    return {name, {first, second}, {}, false, run_unary<Function>};
}

struct Clamped {
    float operator()(float x, double low, double high) const { return bounded(x, static_cast<float>(low), static_cast<float>(high)); }
};

constexpr UnaryFunction clamp(const char* name, double low, double high) {
    return {name, {}, {low, high}, true, run_unary<Clamped>};
}

template <typename Function, int Left, int Right>
[[gnu::always_inline]] inline void run_stepped(const BinaryRun& run) {
    const float low = run.low, high = run.high;
    for (std::int64_t i = 0; i < run.count; ++i) run.target[i] = bounded(Function{}(run.left[i * Left], run.right[i * Right]), low, high);
}

template <typename Function>
void run_binary(const BinaryRun& run) {
    if (run.left_step == 0) return run.right_step == 0 ? run_stepped<Function, 0, 0>(run) : run_stepped<Function, 0, 1>(run);
    return run.right_step == 0 ? run_stepped<Function, 1, 0>(run) : run_stepped<Function, 1, 1>(run);
}

template <typename Function>
constexpr BinaryFunction binary(const char* name, Function, bool adds = false) {
    return {name, adds, run_binary<Function>};
}

inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

constexpr UnaryFunction kUnaries[] = {
    clamp("relu", 0, INFINITY),
    clamp("relu6", 0, 6),
    unary("leaky_relu", [](float x, double slope) { return x >= 0.0f ? x : x * static_cast<float>(slope); }, "negative_slope"),
    unary("hardswish", [](float x) { return x * bounded(x + 3.0f, 0.0f, 6.0f) / 6.0f; }),
    unary("hardsigmoid", [](float x) { return bounded(x + 3.0f, 0.0f, 6.0f) / 6.0f; }),
    unary("silu", [](float x) { return x * sigmoid(x); }),
    unary("sigmoid", [](float x) { return sigmoid(x); }),
    unary("tanh", [](float x) { return tanhf(x); }),
    unary("gelu none", [](float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }),
    unary("gelu tanh", [](float x) { return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x))); }),
};

constexpr BinaryFunction kBinaries[] = {
    binary("add", [](float a, float b) { return a + b; }, true),
    binary("mul", [](float a, float b) { return a * b; }),
};
