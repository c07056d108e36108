// Functions of one element and of two, each an entry of a table, written once for every kernel: included behind
// exponential.hpp. What many networks have behind every layer is said twice: of a number, with C's functions, as the kernel
// without vectors has it (kByVectors), and of a vector.
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

template <typename Function>
[[gnu::always_inline]] inline Vec apply_vectors(Function function, Vec x, const double* parameters) {
    if constexpr (requires { function(x, splat(0.0f)); }) return function(x, splat(static_cast<float>(parameters[0])));
    else return function(x);
}

// What is behind the last element of the source may be anything.
template <typename Function>
void run_vectors(const double* parameters, const float* source, float* target, std::int64_t count) {
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        store_any(target + i, apply_vectors(Function{}, load_any(source + i), parameters));
    if (i == count) return;
    alignas(64) float rest[kLanes] = {};
    for (std::int64_t j = i; j < count; ++j) rest[j - i] = source[j];
    store_some(target + i, apply_vectors(Function{}, load(rest), parameters), static_cast<int>(count - i));
}

// parameters: the attributes that the function takes behind the element.
template <typename Function>
constexpr UnaryFunction unary(const char* name, Function, const char* first = nullptr, const char* second = nullptr) {
    return {name, {first, second}, {}, false, run_unary<Function>};
}

template <typename Function, typename Vectors>
constexpr UnaryFunction by_vectors(const char* name, Function, Vectors, const char* first = nullptr) {
    return {name, {first, nullptr}, {}, false, kByVectors ? run_vectors<Vectors> : run_unary<Function>};
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

// e^x of any x, but for its last bits: the square of the root, which is neither too large nor 0 before the power is.
[[gnu::always_inline]] inline Vec power(Vec x) {
    const Vec root = Exponential(smaller(splat(88.0f), times(splat(0.5f), x))).value();
    return times(root, root);
}

// factor / (1 + e^-x), whose infinities are as that has them.
[[gnu::always_inline]] inline Vec logistic(Vec x, Vec factor) {
    return over(factor, plus(splat(1.0f), power(minus(splat(0.0f), x))));
}

// x · P(N(0, 1) ≤ x). P(N ≤ −t) = ½ e^(−q(t)), q fitted to what that is for t ≤ 9.5 so that the product is off by 2e-8 at
// most, and steep enough beyond that the power is 0 before anybody sees the difference.
[[gnu::always_inline]] inline Vec gaussian(Vec x) {
    const Vec size = larger(minus(splat(0.0f), x), x), near = smaller(splat(9.5f), size);
    Vec q = fused(splat(7.556677061870687e-9f), near, splat(-2.8845099109275907e-7f));
    q = fused(q, near, splat(4.509858626988716e-6f));
    q = fused(q, near, splat(-3.643459785962477e-5f));
    q = fused(q, near, splat(1.4212947280611843e-4f));
    q = fused(q, near, splat(9.690278966445476e-5f));
    q = fused(q, near, splat(-4.9225399270653725e-3f));
    q = fused(q, near, splat(3.641553968191147e-2f));
    q = fused(q, near, splat(3.1828802824020386e-1f));
    q = fused(q, near, splat(7.978865504264832e-1f));
    q = fused(q, near, times(splat(10.0f), minus(size, near)));
    const Vec half = times(splat(0.5f), Exponential(minus(splat(0.0f), q)).value());
    // Of what is negative the half, of what is not 1 less it.
    const Vec below = times(smaller(splat(0.0f), x), half), above = larger(splat(0.0f), x);
    return plus(below, times(above, minus(splat(1.0f), half)));
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
    by_vectors(
        "silu", [](float x) { return x * sigmoid(x); }, [](Vec x) { return logistic(x, x); }),
    by_vectors(
        "sigmoid", [](float x) { return sigmoid(x); }, [](Vec x) { return logistic(x, splat(1.0f)); }),
    by_vectors(
        "tanh", [](float x) { return tanhf(x); }, [](Vec x) { return tangent(x); }),
    by_vectors(
        "elu", [](float x, double alpha) { return x > 0.0f ? x : static_cast<float>(alpha * expm1f(x)); },
        [](Vec x, Vec alpha) {
            return fused(alpha, Exponential(smaller(splat(0.0f), x)).less_one(), larger(splat(0.0f), x));
        },
        "alpha"),
    by_vectors(
        "selu", [](float x) { return x > 0.0f ? 1.0507009873554805f * x : 1.7580993408473766f * expm1f(x); },
        [](Vec x) {
            return fused(splat(1.7580993408473766f), Exponential(smaller(splat(0.0f), x)).less_one(),
                         times(splat(1.0507009873554805f), larger(splat(0.0f), x)));
        }),
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
    by_vectors(
        "gelu none", [](float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); },
        [](Vec x) { return gaussian(x); }),
    by_vectors(
        "gelu tanh",
        [](float x) { return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x))); },
        [](Vec x) {
            const Vec cube = times(times(times(splat(0.044715f), x), x), x);
            return logistic(times(splat(1.59576912160573072f), plus(x, cube)), x);
        }),
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
