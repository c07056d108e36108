// What a symbol is of a float and of a quantised weight, and the bytes that stand before the coded streams.
#pragma once

#include <cstdlib>
#include <string_view>

#include "walk.hpp"

namespace secateur::codec {

template <typename Word>
struct Floats {
    using Value = Word;
    FloatLayout layout;

    int low_bits(const Plan& plan) const { return layout.mantissa - plan.trimmed; }
    std::uint32_t exponents() const { return 1u << layout.exponent; }
    std::uint32_t exponent(Word word) const { return word >> layout.mantissa & (exponents() - 1); }

    Symbol split(Word word, const Plan& plan) const {
        const std::uint32_t away = exponent(word) - plan.base;
        return {word == 0, word >> (layout.mantissa + layout.exponent) != 0, away & (exponents() - 1),
                (word & ((1u << layout.mantissa) - 1)) >> plan.trimmed};
    }

    Word join(const Symbol& symbol, const Plan& plan) const {
        const std::uint32_t exponent = (plan.base + symbol.level) & (exponents() - 1);
        const std::uint32_t sign = symbol.negative ? 1u << layout.exponent : 0;
        return static_cast<Word>((sign | exponent) << layout.mantissa | symbol.low << plan.trimmed);
    }
};

struct Levels {
    using Value = std::int16_t;

    int low_bits(const Plan& plan) const { return plan.base; }

    Symbol split(std::int16_t level, const Plan& plan) const {
        if (level == 0) return {true, false, 0, 0};
        const auto rank = static_cast<std::uint32_t>(std::abs(level)) - 1;
        return {false, level < 0, rank >> plan.base, rank & ((1u << plan.base) - 1)};
    }
};

constexpr std::size_t kHead = 8;

inline void write_head(const Plan& plan, std::vector<std::uint8_t>& bytes) {
    const bool flags[] = {plan.mask_column, plan.mask_row,   plan.mask_near, plan.full,
                          plan.sign_near,   plan.level_near, plan.level_row};
    int first = 0;
    for (int i = 0; i < 7; ++i) first |= flags[i] << i;
    for (int byte : {first, int{plan.base}, plan.pivot << 2 | plan.modelled, int{plan.trimmed}, plan.lag & 255,
                     plan.lag >> 8, plan.density & 255, plan.density >> 8}) {
        bytes.push_back(static_cast<std::uint8_t>(byte));
    }
}

inline std::string_view read_head(std::span<const std::uint8_t> bytes, std::size_t cols, Plan& plan) {
    if (bytes.size() < kHead + 1) return "too short for a coded weight";
    const auto flag = [&](int i) { return (bytes[0] >> i & 1) != 0; };
    plan.mask_column = flag(0), plan.mask_row = flag(1), plan.mask_near = flag(2), plan.full = flag(3);
    plan.sign_near = flag(4), plan.level_near = flag(5), plan.level_row = flag(6);
    plan.base = bytes[1];
    plan.modelled = bytes[2] & 3;
    plan.pivot = bytes[2] >> 2;
    plan.trimmed = bytes[3];
    plan.lag = static_cast<std::uint16_t>(bytes[4] | bytes[5] << 8);
    plan.density = static_cast<std::uint16_t>(bytes[6] | bytes[7] << 8);
    if (flag(7)) return "a flag that this version does not know";
    if (plan.pivot >= kUnary) return "a pivot beyond the levels";
    if (plan.density == 0) return "a density of 0";
    if (plan.lag == 1 || plan.lag > cols) return "a lag of 1, or longer than a row";
    return {};
}

inline void write_length(std::size_t length, std::vector<std::uint8_t>& bytes) {
    for (; length >= 128; length >>= 7) bytes.push_back(static_cast<std::uint8_t>(length | 128));
    bytes.push_back(static_cast<std::uint8_t>(length));
}

// LEB128; moves `bytes` behind it. False where it does not end, or is longer than what follows.
inline bool read_length(std::span<const std::uint8_t>& bytes, std::size_t& length) {
    length = 0;
    for (int shift = 0; shift < 63 && !bytes.empty(); shift += 7) {
        const std::uint8_t byte = bytes.front();
        bytes = bytes.subspan(1);
        length |= static_cast<std::size_t>(byte & 127) << shift;
        if (byte < 128) return length <= bytes.size();
    }
    return false;
}

}  // namespace secateur::codec
