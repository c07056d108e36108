#include "weights.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "declared.hpp"
#include "eight_bits.hpp"
#include "failure.hpp"
#include "secateur/codec.hpp"

namespace secateur::packfile {
namespace {

enum Codec { kRaw, kFloats, kLevels };
constexpr std::size_t kMostRanks = 256;

template <typename Number>
Number read_at(Bytes bytes, std::size_t at) {
    if (at > bytes.size() || bytes.size() - at < sizeof(Number)) throw FormatError("a codebook that is cut short");
    Number value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

// Rows and columns that a weight is coded as: a row per output channel, a vector as one row.
codec::Matrix matrix_of(const Stored& stored) {
    const auto rows = stored.shape.size() > 1 ? static_cast<std::size_t>(stored.shape[0]) : 1;
    return {rows, static_cast<std::size_t>(stored.count()) / rows};
}

void check_sense(std::string_view wrong) {
    if (!wrong.empty()) throw FormatError("its bytes make no sense: " + std::string(wrong));
}

// ---- Numbers of fewer bits --------------------------------------------------------------------------------------

std::uint16_t to_brain(float number) {
    const auto wide = std::bit_cast<std::uint32_t>(number);
    return static_cast<std::uint16_t>((wide + 0x7FFF + (wide >> 16 & 1)) >> 16);
}

// To the nearest, ties to even; no NaN comes.
std::uint16_t to_half(float number) {
    const auto wide = std::bit_cast<std::uint32_t>(number);
    const auto sign = static_cast<std::uint16_t>(wide >> 16 & 0x8000);
    const std::uint32_t size = wide & 0x7FFFFFFF;
    if (size >= 0x47800000) return sign | 0x7C00;  // from 2¹⁶ on
    if (size < 0x38800000)                         // below 2⁻¹⁴: a multiple of 2⁻²⁴, which the addition rounds to
        return sign |
               static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3F000000);
    return static_cast<std::uint16_t>(sign | (size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13);
}

float from_half(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16, size = half & 0x7FFF;
    if (size >= 0x7C00) return std::bit_cast<float>(sign | 0x7F800000 | (size & 0x3FF) << 13);
    if (size >= 0x400) return std::bit_cast<float>(sign | ((size << 13) + 0x38000000));
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(size) * 0x1p-24f));
}

float from_brain(std::uint16_t brain) { return std::bit_cast<float>(static_cast<std::uint32_t>(brain) << 16); }

// ---- Codebooks --------------------------------------------------------------------------------------------------

// A number's bits in a format, rounded to float32 first.
template <typename Word>
Word word_of(double number, const std::string& dtype) {
    const auto single = static_cast<float>(number);
    if (dtype == "float32") return static_cast<Word>(std::bit_cast<std::uint32_t>(single));
    return static_cast<Word>(dtype == "float16" ? to_half(single) : to_brain(single));
}

// words: for levels 1, 2, …, then for −1, −2, …. steps: of rows; where there are any, words are the levels themselves.
template <typename Word>
struct Book {
    std::vector<Word> words;
    std::size_t positive = 0, negative = 0, bytes = 0;
    std::vector<float> steps;
};

template <typename Word>
Book<Word> read_table(Bytes packed) {
    Book<Word> book;
    book.positive = read_at<std::uint16_t>(packed, 1), book.negative = read_at<std::uint16_t>(packed, 3);
    if (std::max(book.positive, book.negative) > kMostRanks)
        throw FormatError("a codebook with more words than 256 of a sign");
    const std::size_t count = book.positive + book.negative;
    for (std::size_t i = 0; i < count; ++i) book.words.push_back(read_at<Word>(packed, 5 + i * sizeof(Word)));
    book.bytes = 5 + count * sizeof(Word);
    return book;
}

template <typename Word>
Book<Word> read_steps(Bytes packed, const std::string& dtype) {
    const std::size_t count = read_at<std::uint16_t>(packed, 1);
    const auto placed = read_at<std::uint8_t>(packed, 3);
    const auto low = read_at<float>(packed, 4), step = read_at<float>(packed, 8);
    if (count < 1 || count > kMostRanks || placed > 1 || !std::isfinite(low) || !std::isfinite(step))
        throw FormatError("a codebook of steps that makes no sense");
    Book<Word> book{{}, count, count, 12 + (placed ? 2 * count : 0), {}};
    for (std::size_t i = 0; i < 2 * count; ++i) {
        const double place = placed ? (read_at<std::uint8_t>(packed, 12 + i) + 0.5) / 256 : 0.5;
        const double size =
            static_cast<double>(low) + (static_cast<double>(i % count) + place) * static_cast<double>(step);
        book.words.push_back(word_of<Word>(i < count ? size : -size, dtype));
    }
    return book;
}

void fill_with_levels(auto& book) {
    using Word = typename std::remove_reference_t<decltype(book.words)>::value_type;
    for (std::size_t i = 1; i <= book.positive; ++i) book.words.push_back(static_cast<Word>(i));
    for (std::size_t i = 1; i <= book.negative; ++i) book.words.push_back(static_cast<Word>(-static_cast<int>(i)));
}

Book<std::uint16_t> read_channels(Bytes packed, std::size_t rows) {
    const std::size_t count = read_at<std::uint16_t>(packed, 1);
    if (count < 1 || count > kMostRanks)
        throw FormatError("a codebook of " + std::to_string(count) + " words: expected 1 to 256");
    Book<std::uint16_t> book{{}, count, count, 3 + 4 * rows, {}};
    for (std::size_t row = 0; row < rows; ++row) {
        book.steps.push_back(read_at<float>(packed, 3 + 4 * row));
        if (!std::isfinite(book.steps.back())) throw FormatError("a codebook with a step that is no number");
    }
    fill_with_levels(book);
    return book;
}

// ---- Codecs -----------------------------------------------------------------------------------------------------

template <typename Word>
void decode_with(const Book<Word>& book, Bytes content, codec::Matrix shape, std::span<Word> words) {
    const codec::Codebook<Word> held{book.words, book.positive, book.negative};
    check_sense(codec::decode_levels<Word>(content.subspan(book.bytes), shape, held, words));
}

// Levels times the step of their row.
template <typename Word>
void decode_channels(const Stored& stored, Bytes content, std::span<Word> words) {
    const codec::Matrix shape = matrix_of(stored);
    const Book<std::uint16_t> book = read_channels(content, shape.rows);
    std::vector<std::uint16_t> levels(words.size());
    decode_with<std::uint16_t>(book, content, shape, levels);
    for (std::size_t i = 0; i < words.size(); ++i) {
        const auto level = static_cast<std::int16_t>(levels[i]);
        words[i] =
            word_of<Word>(static_cast<double>(level) * static_cast<double>(book.steps[i / shape.cols]), stored.dtype);
    }
}

template <typename Word>
void decode_levels(const Stored& stored, Bytes content, std::span<Word> words) {
    const codec::Matrix shape = matrix_of(stored);
    const int kind = content.empty() ? -1 : content[0];
    switch (kind) {
        case 0: return decode_with<Word>(read_table<Word>(content), content, shape, words);
        case 1: return decode_with<Word>(read_steps<Word>(content, stored.dtype), content, shape, words);
        case 2: return decode_channels<Word>(stored, content, words);
        default:
            throw FormatError("a codebook of kind " + std::to_string(kind) + ", which no weight of " + stored.dtype +
                              " has");
    }
}

void decode_bytes(const Stored& stored, Bytes content, std::span<std::uint8_t> words) {
    if (content.empty() || content[0] != 3)
        throw FormatError("a codebook of another kind than weights of eight bits have");
    Book<std::uint8_t> book{{}, 127, 128, 1, {}};
    fill_with_levels(book);
    decode_with<std::uint8_t>(book, content, matrix_of(stored), words);
}

void decode_floats(const Stored& stored, Bytes content, Weight& weight) {
    const Format& format = *find_format(stored.dtype);
    const codec::FloatLayout layout{format.exponent, format.mantissa};
    if (format.bits == 32)
        check_sense(
            codec::decode_floats<std::uint32_t>(content, matrix_of(stored), layout, weight.as<std::uint32_t>()));
    else
        check_sense(
            codec::decode_floats<std::uint16_t>(content, matrix_of(stored), layout, weight.as<std::uint16_t>()));
}

// Whole numbers that are coded as the float32 numbers that they are.
template <typename Number>
void decode_wholes(const Stored& stored, Bytes content, std::span<Number> numbers) {
    std::vector<std::uint32_t> words(numbers.size());
    check_sense(codec::decode_floats<std::uint32_t>(content, matrix_of(stored), {8, 23}, words));
    constexpr double kLeast = static_cast<double>(std::numeric_limits<Number>::min());
    for (std::size_t i = 0; i < words.size(); ++i) {
        const double number = static_cast<double>(std::bit_cast<float>(words[i]));
        if (!(number >= kLeast && number < -kLeast && number == std::rint(number)))
            throw FormatError("it has numbers that are no whole ones of " + std::to_string(8 * sizeof(Number)) +
                              " bits");
        if (number == 0 && words[i] != 0) throw FormatError("it has a zero with a sign, which whole numbers have not");
        numbers[i] = static_cast<Number>(number);
    }
}

bool is_float(const std::string& dtype) { return find_format(dtype)->mantissa > 0; }
bool is_byte(const std::string& dtype) { return dtype == "int8" || dtype == "bool"; }

void decode_into(const Stored& stored, Bytes content, Weight& weight) {
    const bool levels = stored.codec == kLevels;
    if (is_float(stored.dtype) && !levels) decode_floats(stored, content, weight);
    else if (stored.dtype == "float32") decode_levels(stored, content, weight.as<std::uint32_t>());
    else if (is_float(stored.dtype)) decode_levels(stored, content, weight.as<std::uint16_t>());
    else if (is_byte(stored.dtype) && levels) decode_bytes(stored, content, weight.as<std::uint8_t>());
    else if (stored.dtype == "int32" && !levels) decode_wholes(stored, content, weight.as<std::int32_t>());
    else if (stored.dtype == "int64" && !levels) decode_wholes(stored, content, weight.as<std::int64_t>());
    else
        throw FormatError(std::string("codec ") + (levels ? "levels" : "floats") + ", which no weight of " +
                          stored.dtype + " has");
}

}  // namespace

std::size_t Weight::count() const { return bits.size() / static_cast<std::size_t>(find_format(dtype)->bits / 8); }

Weight decode(const Stored& stored, Bytes content) {
    if (stored.codec > kLevels)
        throw FormatError("codec " + std::to_string(stored.codec) +
                          ", which this Secateur does not know: it needs a newer one");
    const auto bytes = static_cast<std::size_t>(stored.count() * (find_format(stored.dtype)->bits / 8));
    Weight weight{stored.dtype, stored.shape, {}};
    if (stored.codec == kRaw) {
        if (content.size() != bytes)
            throw FormatError(std::to_string(content.size()) + " raw bytes where its shape needs " +
                              std::to_string(bytes));
        weight.bits.assign(content.begin(), content.end());
    } else {
        if (bytes == 0) throw FormatError("it is coded although it is empty");
        weight.bits.resize(bytes);
        decode_into(stored, content, weight);
    }
    const auto is_truth = [](std::uint8_t each) { return each <= 1; };
    if (stored.dtype == "bool" && !std::all_of(weight.bits.begin(), weight.bits.end(), is_truth))
        throw FormatError("it has truth values that are neither true nor false");
    return weight;
}

std::vector<float> as_floats(const Weight& weight) {
    std::vector<float> made(weight.count());
    const auto convert = [&](auto numbers, auto function) {
        std::transform(numbers.begin(), numbers.end(), made.begin(), function);
    };
    const auto plain = [](auto number) { return static_cast<float>(number); };
    if (weight.dtype == "float32") convert(weight.as<float>(), plain);
    else if (weight.dtype == "float16") convert(weight.as<std::uint16_t>(), from_half);
    else if (weight.dtype == "bfloat16") convert(weight.as<std::uint16_t>(), from_brain);
    else if (weight.dtype == "int8") convert(weight.as<std::int8_t>(), plain);
    else if (weight.dtype == "bool") convert(weight.as<std::uint8_t>(), plain);
    else if (weight.dtype == "int32") convert(weight.as<std::int32_t>(), plain);
    else convert(weight.as<std::int64_t>(), plain);
    return made;
}

// ---- Demands ----------------------------------------------------------------------------------------------------

namespace {

[[noreturn]] void refuse(const Node& node, const std::string& expected) {
    throw GraphError("node " + quoted(node.name) + " (" + node.op + "): expected " + expected);
}

// A layer's numbers: scales that are some, and sums that 32 bits hold.
void check_layer(const Node& node, const Weights& weights) {
    const auto scales = weights.at(node.weights.at("scale")).as<float>();
    for (float scale : scales) {
        if (!std::isfinite(scale) || scale <= 0) refuse(node, "scales of weights above 0, and finite");
        const double product = in_single(node.number("input_scale")) * static_cast<double>(scale);
        if (!std::isfinite(multiplier(product, in_single(node.number("output_scale")))))
            refuse(node, "scales whose product, over the output's, is a number of float32");
    }
    const auto weight = weights.at(node.weights.at("weight")).as<std::int8_t>();
    const auto bias = node.weights.find("bias");
    const std::span<const std::int32_t> biases =
        bias == node.weights.end() ? std::span<const std::int32_t>{} : weights.at(bias->second).as<std::int32_t>();
    const std::size_t columns = scales.empty() ? 0 : weight.size() / scales.size();
    for (std::size_t row = 0; row < scales.size(); ++row) {
        std::int64_t sum = 0;
        for (std::int8_t each : weight.subspan(row * columns, columns)) sum += std::abs(static_cast<int>(each));
        const std::int64_t most = kFarthest * sum + (biases.empty() ? 0 : std::abs(std::int64_t{biases[row]}));
        if (most > kLargestSum) refuse(node, "weights and biases whose sums stay below 2³¹ whatever the input");
    }
}

void check_table(const Node& node, const Weights& weights) {
    const auto [low, high] = bounds_of(node.text("element"));
    for (std::int32_t each : weights.at(node.weights.at("table")).as<std::int32_t>())
        if (each < low || each > high)
            refuse(node, "a table of numbers from " + std::to_string(low) + " to " + std::to_string(high));
}

// That an axis has the indices, whatever its length where that is free.
void check_indices(const Node& node, const Shape& shape, const Weights& weights) {
    const Size& size = shape[static_cast<std::size_t>(node.whole("axis") - 1)];
    const Weight& indices = weights.at(node.weights.at("indices"));
    const auto check = [&](auto numbers) {
        for (auto each : numbers)
            if (each < 0 || each == std::numeric_limits<decltype(each)>::max() ||
                !size.at_least(Size(std::int64_t{each} + 1)))
                refuse(node, "indices of an axis of " + size.text());
    };
    if (indices.dtype == "int64") check(indices.as<std::int64_t>());
    else check(indices.as<std::int32_t>());
}

}  // namespace

void check_numbers(const Graph& graph, const Checked& checked, const Weights& weights) {
    for (const Node& node : graph.nodes) {
        const std::string_view demands = find_operation(node.op)->demands;
        if (demands == "demands_of_layers") check_layer(node, weights);
        else if (demands == "demands_of_tables") check_table(node, weights);
        else if (demands == "demands_of_take") check_indices(node, checked.shapes.at(node.inputs[0]), weights);
        else if (!demands.empty())
            throw Unsupported("node " + quoted(node.name) + " (" + node.op +
                              "): this library does not know its demands");
    }
}

}  // namespace secateur::packfile
