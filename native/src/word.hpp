// What the arena is counted in.
#pragma once

#include <bit>
#include <cstdint>

namespace secateur {

// A float32, or four elements of eight bits. Who moves values moves words, whatever is in them; who computes reads them
// as what they hold, which is why a word may alias anything.
struct [[gnu::may_alias]] Word {
    std::uint32_t bits;
};

[[gnu::always_inline]] inline Word as_word(float value) { return {std::bit_cast<std::uint32_t>(value)}; }
[[gnu::always_inline]] inline Word* as_words(float* values) { return reinterpret_cast<Word*>(values); }
[[gnu::always_inline]] inline const Word* as_words(const float* values) {
    return reinterpret_cast<const Word*>(values);
}
[[gnu::always_inline]] inline float* as_floats(Word* words) { return reinterpret_cast<float*>(words); }
[[gnu::always_inline]] inline const float* as_floats(const Word* words) {
    return reinterpret_cast<const float*>(words);
}

}  // namespace secateur
