// Functions of one element and of two, each an entry of a table, written once for every kernel: included behind loops.hpp.
//
// Of libm only C's own functions: those of float by their names, the others of a double, which is where a parameter or a
// sum before the function would cost more than the last bits of a float.

template <typename Function>
[[gnu::always_inline]] inline float apply(Function function, float x, const double* parameters) {
    if constexpr (requires { function(x, parameters[0], parameters[1]); })
        return function(x, parameters[0], parameters[1]);
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
    float operator()(float x, double low, double high) const {
        return bounded(x, static_cast<float>(low), static_cast<float>(high));
    }
};

constexpr UnaryFunction clamp(const char* name, double low, double high) {
    return {name, {}, {low, high}, true, run_unary<Clamped>};
}

template <typename Function, int Left, int Right>
[[gnu::always_inline]] inline void run_stepped(const BinaryRun& run) {
    const float low = run.low, high = run.high;
    for (std::int64_t i = 0; i < run.count; ++i)
        run.target[i] = bounded(Function{}(run.left[i * Left], run.right[i * Right]), low, high);
}

template <typename Function>
void run_binary(const BinaryRun& run) {
    if (run.left_step == 0)
        return run.right_step == 0 ? run_stepped<Function, 0, 0>(run) : run_stepped<Function, 0, 1>(run);
    return run.right_step == 0 ? run_stepped<Function, 1, 0>(run) : run_stepped<Function, 1, 1>(run);
}

template <typename Function>
constexpr BinaryFunction binary(const char* name, Function, bool adds = false) {
    return {name, adds, run_binary<Function>};
}

inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// log(1 + e^x) of any size: e^-|x| is never too large.
inline double log_of_sum(double x) { return (x > 0.0 ? x : 0.0) + log1p(exp(-fabs(x))); }

// x · tanh(log(1 + e^x)), the tangent being n / (n + 2) for n = e^x (e^x + 2); from 20 on it is 1.
inline float mish(float x) {
    if (x > 20.0f) return x;
    const double power = exp(static_cast<double>(x)), n = power * (power + 2.0);
    return static_cast<float>(x * (n / (n + 2.0)));
}

// Of a division that is rounded down what is left, with the divisor's sign: exact, as fmod is.
inline float remainder_of(float a, float b) {
    const float left = fmodf(a, b);
    return left != 0.0f && (left < 0.0f) != (b < 0.0f) ? left + b : left;
}

inline float floor_quotient(float a, float b) {
    const float quotient = (a - remainder_of(a, b)) / b, down = floorf(quotient);
    return quotient - down > 0.5f ? down + 1.0f : down;
}

constexpr UnaryFunction kUnaries[] = {
    clamp("relu", 0, INFINITY),
    clamp("relu6", 0, 6),
    unary(
        "leaky_relu",
        [](float x, double slope) {
            const float scaled = x * static_cast<float>(slope);  // in any case: a branch keeps loops from vectors
            return x >= 0.0f ? x : scaled;
        },
        "negative_slope"),
    unary("hardswish", [](float x) { return x * bounded(x + 3.0f, 0.0f, 6.0f) / 6.0f; }),
    unary("hardsigmoid", [](float x) { return bounded(x + 3.0f, 0.0f, 6.0f) / 6.0f; }),
    unary("silu", [](float x) { return x * sigmoid(x); }),
    unary("sigmoid", [](float x) { return sigmoid(x); }),
    unary("tanh", [](float x) { return tanhf(x); }),
    unary(
        "elu", [](float x, double alpha) { return x > 0.0f ? x : static_cast<float>(alpha * expm1f(x)); }, "alpha"),
    unary("selu", [](float x) { return x > 0.0f ? 1.0507009873554805f * x : 1.7580993408473766f * expm1f(x); }),
    unary(
        "softplus",
        [](float x, double beta, double threshold) {
            const double scaled = beta * x;
            return scaled > threshold ? x : static_cast<float>(log_of_sum(scaled) / beta);
        },
        "beta", "threshold"),
    unary("mish", [](float x) { return mish(x); }),
    unary("abs", [](float x) { return fabsf(x); }),
    unary("neg", [](float x) { return -x; }),
    unary("floor", [](float x) { return floorf(x); }),
    unary("ceil", [](float x) { return ceilf(x); }),
    unary("round", [](float x) { return rintf(x); }),
    unary("truncate", [](float x) { return truncf(x); }),
    unary("sign", [](float x) { return x > 0.0f   ? 1.0f
                                       : x < 0.0f ? -1.0f
                                                  : x; }),
    unary("is_true", [](float x) { return x != 0.0f ? 1.0f : 0.0f; }),
    unary("logical_not", [](float x) { return x != 0.0f ? 0.0f : 1.0f; }),
    unary("reciprocal", [](float x) { return 1.0f / x; }),
    unary("sqrt", [](float x) { return sqrtf(x); }),
    unary("rsqrt", [](float x) { return 1.0f / sqrtf(x); }),
    unary("exp", [](float x) { return expf(x); }),
    unary("log", [](float x) { return logf(x); }),
    unary("sin", [](float x) { return sinf(x); }),
    unary("cos", [](float x) { return cosf(x); }),
    unary("erf", [](float x) { return erff(x); }),
    unary(
        "pow", [](float x, double exponent) { return static_cast<float>(pow(static_cast<double>(x), exponent)); },
        "exponent"),
    unary("gelu none", [](float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }),
    unary("gelu tanh",
          [](float x) { return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x))); }),
};

constexpr BinaryFunction kBinaries[] = {
    binary(
        "add", [](float a, float b) { return a + b; }, true),
    binary("sub", [](float a, float b) { return a - b; }),
    binary("mul", [](float a, float b) { return a * b; }),
    binary("div", [](float a, float b) { return a / b; }),
    // A NaN on either side is what comes out.
    binary("maximum", [](float a, float b) { return a > b || a != a ? a : b; }),
    binary("minimum", [](float a, float b) { return a < b || a != a ? a : b; }),
    binary("equal", [](float a, float b) { return a == b ? 1.0f : 0.0f; }),
    binary("less", [](float a, float b) { return a < b ? 1.0f : 0.0f; }),
    binary("less_equal", [](float a, float b) { return a <= b ? 1.0f : 0.0f; }),
    binary("floor_div", [](float a, float b) { return floor_quotient(a, b); }),
    binary("remainder", [](float a, float b) { return remainder_of(a, b); }),
};
