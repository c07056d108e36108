// Functions of vectors that are made of powers of e.

// e^x = scale · (1 + rest), a power of two and what is less than √2 apart from 1, for x up to 88; 0 below −87.7.
struct Exponential {
    Vec scale, rest;

    [[gnu::always_inline]] explicit Exponential(Vec x) {
        x = larger(splat(-88.0f), x);
        const Vec round = splat(12582912.0f);  // 1.5 · 2²³: sums with it are whole numbers
        const Vec steps = fused(x, splat(1.44269504f), round), whole = minus(steps, round);
        // ln 2 in two parts, the first of nine bits, whose product is exact.
        const Vec r = fused(whole, splat(2.12194440e-4f), fused(whole, splat(-0.693359375f), x));
        // Fitted to (e^r − 1 − r) / r² for |r| ≤ ln 2 / 2: off by 3e-9 of e^r at most.
        Vec power = fused(splat(1.381432047e-3f), r, splat(8.368851075e-3f));
        power = fused(power, r, splat(4.166840109e-2f));
        power = fused(power, r, splat(1.666651952e-1f));
        power = fused(power, r, splat(4.999999337e-1f));
        rest = fused(times(r, r), power, r);
        scale = power_of_two(steps);
    }

    [[gnu::always_inline]] Vec value() const { return fused(scale, rest, scale); }
    // e^x − 1, to the last digits of what is near 0.
    [[gnu::always_inline]] Vec less_one() const { return fused(scale, rest, minus(scale, splat(1.0f))); }
};

[[gnu::always_inline]] inline Vec sigmoid(Vec x) {
    const Vec one = splat(1.0f);
    return over(one, plus(one, Exponential(smaller(splat(88.0f), minus(splat(0.0f), x))).value()));
}

[[gnu::always_inline]] inline Vec tangent(Vec x) {
    const Vec less = Exponential(smaller(splat(88.0f), plus(x, x))).less_one();
    return over(less, plus(less, splat(2.0f)));
}
