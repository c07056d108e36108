// The weights of a layer, as the words that its kernels multiply words of inputs by.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.hpp"
#include "secateur/graph.hpp"

namespace secateur {

// Weights of eight bits. A word of them meets four consecutive input channels; outputs are rounded up to whole words. As
// many groups of a grouped convolution are taken for one as make words of their channels and outputs: what one of its
// outputs has no weights for is left out where that is whole words, and zero elsewhere.
struct ByteWeights {
    std::int64_t outputs, groups;
    std::int64_t channels;             // words of a group
    std::int64_t span, taps;           // words that an output has weights for
    std::vector<std::int64_t> first;   // [output]: of these, in its group
    std::vector<Word> words;           // [output][span][tap]
    std::vector<std::int32_t> bias;    // [output]
    std::vector<std::int32_t> totals;  // [output][tap]: sum over channels
    std::vector<float> multipliers;    // [output]
    std::int64_t nonzeros = 0;         // weights
    std::int32_t input_zero = 0;
    Requantisation end{};  // but for its multipliers

    Word fill() const { return {static_cast<std::uint32_t>(input_zero) * 0x01010101u}; }
    const Word& word(std::int64_t output, std::int64_t channel, std::int64_t tap) const {
        return words[static_cast<std::size_t>((output * span + channel) * taps + tap)];
    }
};

// Of floats: weight, outputs first; scale and bias per output, scale may be empty (ones). Of bytes: all is in `bytes`, but
// for the weight's shape.
struct Filter {
    Array weight;
    std::vector<float> scale, bias;
    std::shared_ptr<const ByteWeights> bytes;
    std::int64_t taps = 1;

    std::int64_t outputs() const { return weight.shape[0]; }
    Element element() const { return bytes ? Element::kUint8 : Element::kFloat32; }
    // Of the output.
    bool makes_bytes() const { return bytes && !bytes->end.floats; }
    std::int64_t nonzeros() const;
    // Words that are multiplied by, of so many.
    std::int64_t words() const {
        return bytes ? static_cast<std::int64_t>(bytes->words.size()) : elements(weight.shape);
    }
    std::int64_t nonzero_words() const;

    // In words: the channels from first(output) on, of the output's group, for which it has weights.
    std::int64_t first(std::int64_t output) const { return bytes ? bytes->first[output] : 0; }
    std::int64_t span() const { return bytes ? bytes->span : weight.shape[1]; }
    bool zero(std::int64_t output, std::int64_t channel, std::int64_t tap) const {
        return bytes ? bytes->word(output, channel, tap).bits == 0 : at(output, channel, tap) == 0.0f;
    }
    Word word(std::int64_t output, std::int64_t channel, std::int64_t tap) const {
        if (bytes) return bytes->word(output, channel, tap);
        const float value = at(output, channel, tap), scaled = scale.empty() ? value : value * scale[output];
        return scaled == 0.0f ? Word{0} : as_word(scaled);
    }
    // What sums of these taps start from: of floats, or of bytes, which are summed up as they are, zero points and all.
    std::vector<Word> biases(const Kernels& kernels, const std::vector<bool>& used) const;
    std::vector<Word> biases(const Kernels& kernels) const {
        return biases(kernels, std::vector<bool>(static_cast<std::size_t>(taps), true));
    }

   private:
    float at(std::int64_t output, std::int64_t channel, std::int64_t tap) const {
        return weight.data[(output * weight.shape[1] + channel) * taps + tap];
    }
};

// weight: (outputs, channels of a group, taps …) of int8; bias: may be null; multipliers: per output.
std::int64_t taps_of(const Shape& weight);
std::shared_ptr<const ByteWeights> make_byte_weights(const Array& weight, const Array* bias, const Array& multipliers,
                                                     std::int64_t groups, std::int32_t input_zero, Requantisation end);

// Of an instruction set whose dot products add two products in 16 bits: a word of which that could be too much, as two.
bool is_wide(Word weights);
Word even_half(Word weights);
Word odd_half(Word weights);
bool has_wide(const ByteWeights& weights);

}  // namespace secateur
