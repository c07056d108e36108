// Reading a weight, from bytes that may come from anyone.
#include <algorithm>
#include <array>

#include "secateur/codec.hpp"
#include "symbols.hpp"

namespace secateur::codec {

namespace {

template <typename Word, class Put>
std::string_view decode(std::span<const std::uint8_t> bytes, Matrix shape, const Plan& plan, int low_bits,
                        std::span<Word> words, Put put) {
    auto rest = bytes.subspan(kHead);
    std::size_t length = 0;
    if (!read_length(rest, length)) return "a stream longer than its weight";
    Decoder decoder(rest.first(length), rest.subspan(length));
    Model<Decoder> model(decoder, plan, shape, low_bits);
    std::array<Symbol, kRun> symbols;
    symbols.fill({});
    std::fill(words.begin(), words.end(), Word{0});
    for (std::size_t row = 0; row < shape.rows; ++row) {
        model.begin_row();
        for (std::size_t col = 0; col < shape.cols; col += kRun) {
            Word* const here = words.data() + row * shape.cols + col;
            for (const std::uint16_t place : model.run(col, std::min(kRun, shape.cols - col), symbols.data())) {
                if (!put(here[place], symbols[place])) return "a level beyond the codebook";
            }
        }
    }
    return decoder.ended() ? std::string_view{} : "streams do not end with the weight";
}

// Empty matrices are not coded: a side of theirs could be of any length.
bool fits(Matrix shape, std::size_t count) {
    return count > 0 && shape.cols > 0 && count / shape.cols == shape.rows && count % shape.cols == 0;
}

}  // namespace

template <typename Word>
std::string_view decode_floats(std::span<const std::uint8_t> bytes, Matrix shape, FloatLayout layout,
                               std::span<Word> words) {
    if (!fits(shape, words.size())) return "another number of weights than its shape has";
    Plan plan;
    if (const auto wrong = read_head(bytes, shape.cols, plan); !wrong.empty()) return wrong;
    if (plan.trimmed > layout.mantissa) return "more trimmed bits than a mantissa has";
    const Floats<Word> floats{layout};
    return decode(bytes, shape, plan, floats.low_bits(plan), words, [&](Word& word, const Symbol& symbol) {
        word = floats.join(symbol, plan);
        return true;
    });
}

template <typename Word>
std::string_view decode_levels(std::span<const std::uint8_t> bytes, Matrix shape, const Codebook<Word>& codebook,
                               std::span<Word> words) {
    if (!fits(shape, words.size())) return "another number of weights than its shape has";
    const auto& [book, positive, negative] = codebook;
    if (positive > book.size() || book.size() - positive != negative) return "another number of words than codes";
    Plan plan;
    if (const auto wrong = read_head(bytes, shape.cols, plan); !wrong.empty()) return wrong;
    if (plan.base > 8 || plan.trimmed > 0) return "levels of more than 8 plain bits";
    return decode(bytes, shape, plan, plan.base, words, [&](Word& word, const Symbol& symbol) {
        const std::size_t rank = std::size_t{symbol.level} << plan.base | symbol.low;
        if (rank >= (symbol.negative ? codebook.negative : codebook.positive)) return false;
        word = codebook.words[(symbol.negative ? codebook.positive : 0) + rank];
        return true;
    });
}

template std::string_view decode_floats(std::span<const std::uint8_t>, Matrix, FloatLayout, std::span<std::uint16_t>);
template std::string_view decode_floats(std::span<const std::uint8_t>, Matrix, FloatLayout, std::span<std::uint32_t>);
template std::string_view decode_levels(std::span<const std::uint8_t>, Matrix, const Codebook<std::uint8_t>&,
                                        std::span<std::uint8_t>);
template std::string_view decode_levels(std::span<const std::uint8_t>, Matrix, const Codebook<std::uint16_t>&,
                                        std::span<std::uint16_t>);
template std::string_view decode_levels(std::span<const std::uint8_t>, Matrix, const Codebook<std::uint32_t>&,
                                        std::span<std::uint32_t>);

}  // namespace secateur::codec
