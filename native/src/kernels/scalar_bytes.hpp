// What is done with bytes without instructions of their own: what adding-a-kernel.md lists. What is longer
// is called, since it is many times over in a tile.

constexpr std::int32_t kShift = 0;

struct Ints {
    std::int32_t v[kLanes];
};

struct Halves {
    Ints a, b;
};

using Sum = Ints;

template <typename Function>
[[gnu::always_inline]] inline Ints lanewise_ints(Function function) {
    Ints result;
    for (int i = 0; i < kLanes; ++i) result.v[i] = function(i);
    return result;
}

[[gnu::always_inline]] inline Ints as_ints(Vec a) { return __builtin_bit_cast(Ints, a); }
[[gnu::always_inline]] inline Vec as_vec(Ints a) { return __builtin_bit_cast(Vec, a); }
[[gnu::always_inline]] inline Ints splat_int(std::int32_t a) {
    return lanewise_ints([=](int) { return a; });
}
[[gnu::always_inline]] inline Ints plus_ints(Ints a, Ints b) {
    return lanewise_ints([&](int i) { return a.v[i] + b.v[i]; });
}
[[gnu::always_inline]] inline Sum none() { return splat_int(0); }
[[gnu::always_inline]] inline Sum sum_of(Ints a) { return a; }
[[gnu::always_inline]] inline Sum joined(Sum a, Sum b) { return plus_ints(a, b); }
[[gnu::always_inline]] inline Ints total(Sum sum) { return sum; }
[[gnu::always_inline]] inline Vec float_of(Ints a) {
    return lanewise([&](int i) { return static_cast<float>(a.v[i]); });
}
[[gnu::always_inline]] inline Vec clamped(Vec a, Vec low, Vec high) { return smaller(larger(a, low), high); }

// Half to even; what is beyond 16 bits, where it saturates next, stays there.
[[gnu::noinline]] Ints rounded(Vec a) {
    const Vec within = clamped(a, splat(-40000.0f), splat(40000.0f));
    return lanewise_ints([&](int i) {
        return __builtin_bit_cast(std::int32_t, within.v[i] + 12582912.0f) - 0x4b400000;  // 1.5 · 2²³
    });
}

template <int Index>
[[gnu::always_inline]] inline Ints byte_of(Vec words) {
    const Ints bits = as_ints(words);
    return lanewise_ints([&](int i) { return bits.v[i] >> 8 * Index & 255; });
}

// Sixteen bytes as the compiler keeps them where it has registers of sixteen.
using Shorts = std::int16_t __attribute__((vector_size(16)));
using UnsignedShorts = std::uint16_t __attribute__((vector_size(16)));
using UnsignedInts = std::uint32_t __attribute__((vector_size(16)));
using FourInts = std::int32_t __attribute__((vector_size(16)));

// A product of an unsigned and a signed byte fits into 16 bits; those of even and of odd bytes lie side by side there.
[[gnu::always_inline]] inline Sum dot(Sum sum, Vec inputs, Vec weight) {
    const UnsignedShorts a = __builtin_bit_cast(UnsignedShorts, inputs);
    const Shorts b = __builtin_bit_cast(Shorts, weight);
    const FourInts even = reinterpret_cast<FourInts>(
                       reinterpret_cast<Shorts>(a & 255) *
                       (reinterpret_cast<Shorts>(reinterpret_cast<UnsignedShorts>(b) << 8) >> 8)),
                   odd = reinterpret_cast<FourInts>(reinterpret_cast<Shorts>(a >> 8) * (b >> 8));
    const auto low = [](FourInts pairs) {
        return reinterpret_cast<FourInts>(reinterpret_cast<UnsignedInts>(pairs) << 16) >> 16;
    };
    const FourInts total = __builtin_bit_cast(FourInts, sum) + (low(even) + (even >> 16)) + (low(odd) + (odd >> 16));
    return __builtin_bit_cast(Sum, total);
}

[[gnu::always_inline]] inline Vec most(Vec a, Vec b) {
    const Ints c = as_ints(a), d = as_ints(b);
    return as_vec(lanewise_ints([&](int i) {
        std::uint32_t larger = 0;
        for (int byte = 0; byte < 32; byte += 8) {
            const std::uint32_t one = static_cast<std::uint32_t>(c.v[i]) >> byte & 255,
                                two = static_cast<std::uint32_t>(d.v[i]) >> byte & 255;
            larger |= (one > two ? one : two) << byte;
        }
        return static_cast<std::int32_t>(larger);
    }));
}

[[gnu::always_inline]] inline Halves halves(Ints a, Ints b) { return {a, b}; }

struct Packing {
    std::int32_t zero, low, high;
};

[[gnu::always_inline]] inline Packing make_packing(int zero, int low, int high) { return {zero, low, high}; }

[[gnu::noinline]] Vec words_of(const Halves& low, const Halves& high, const Packing& packing) {
    const auto byte = [&](std::int32_t value) {
        value += packing.zero;
        value = value > packing.low ? value : packing.low;
        return static_cast<std::uint32_t>(value < packing.high ? value : packing.high);
    };
    return as_vec(lanewise_ints([&](int i) {
        return static_cast<std::int32_t>(byte(low.a.v[i]) | byte(low.b.v[i]) << 8 | byte(high.a.v[i]) << 16 |
                                         byte(high.b.v[i]) << 24);
    }));
}

[[gnu::always_inline]] inline Vec words_of(const Halves& low, const Halves& high) {
    return words_of(low, high, make_packing(0, 0, 255));
}
