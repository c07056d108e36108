// The entropy coder of packed weights; docs/format.md specifies every byte of what it writes.
//
// A tensor is a matrix of symbols, row after row. A symbol is zero, or has a sign, a level and some low bits: of a
// floating-point number its exponent and mantissa, of a quantised weight its place in the codebook. Everything is
// integer arithmetic, so that all machines write and read the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace secateur::codec {

struct Matrix {
    std::size_t rows;
    std::size_t cols;
};

// How many bits of a word, from the top: 1 of sign, `exponent`, `mantissa`.
struct FloatLayout {
    int exponent;
    int mantissa;
};

// `positive` words for levels 1, 2, …, then `negative` words for -1, -2, ….
template <typename Word>
struct Codebook {
    std::span<const Word> words;
    std::size_t positive;
    std::size_t negative;
};

// lag: a distance along a row at which weights resemble each other, such as the width of a kernel or image; 0: find
// one. Matrices are not empty.
template <typename Word>
std::vector<std::uint8_t> encode_floats(std::span<const Word> words, Matrix shape, FloatLayout layout, std::size_t lag);
std::vector<std::uint8_t> encode_levels(std::span<const std::int16_t> levels, Matrix shape, std::size_t lag);

// What is wrong with the bytes, or nothing. They may come from anyone; `words` may hold anything where something is.
template <typename Word>
std::string_view decode_floats(std::span<const std::uint8_t> bytes, Matrix shape, FloatLayout layout,
                               std::span<Word> words);
template <typename Word>
std::string_view decode_levels(std::span<const std::uint8_t> bytes, Matrix shape, const Codebook<Word>& codebook,
                               std::span<Word> words);

}  // namespace secateur::codec
