#include "byte_operations.hpp"

#include <algorithm>
#include <map>

#include "byte_arithmetic.hpp"
#include "operations.hpp"

namespace secateur {
namespace {

std::uint8_t get(const Word* words, const BytePlace& place, int image) {
    return static_cast<std::uint8_t>(words[place.word + image].bits >> (8 * place.byte));
}

void put(Word* words, const BytePlace& place, int image, std::uint8_t byte) {
    std::uint32_t& bits = words[place.word + image].bits;
    bits = (bits & ~(0xffu << (8 * place.byte))) | std::uint32_t{byte} << (8 * place.byte);
}

std::vector<std::int64_t> row_major(const Shape& shape) { return dense_strides(shape, 1); }

}  // namespace

std::vector<BytePlace> byte_places(const Shape& whole, const Storage& storage) {
    std::vector<BytePlace> places{{0, 0}};
    for (std::size_t axis = 0; axis < whole.size(); ++axis) {
        const bool packed = axis == packed_axis(whole);
        std::vector<BytePlace> finer;
        for (const BytePlace& place : places)
            for (std::int64_t i = 0; i < whole[axis]; ++i)
                finer.push_back({place.word + (packed ? i / 4 : i) * storage.strides[axis],
                                 packed ? static_cast<int>(i % 4) : place.byte});
        places = std::move(finer);
    }
    return places;
}

ByteMoves::ByteMoves(const std::vector<BytePlace>& targets, const std::vector<BytePlace>& sources) {
    std::map<std::int64_t, Move> of_word;
    for (std::size_t i = 0; i < targets.size(); ++i) {
        Move& move = of_word.try_emplace(targets[i].word, Move{targets[i].word, {-1, -1, -1, -1}, {}}).first->second;
        move.source[targets[i].byte] = sources[i].word;
        move.shift[targets[i].byte] = static_cast<std::uint8_t>(8 * sources[i].byte);
    }
    for (const auto& [word, move] : of_word) moves_.push_back(move);
}

void ByteMoves::run(std::int64_t begin, std::int64_t end, Word* arena, int images) const {
    for (std::int64_t item = begin; item < end; ++item) {
        const Move& move = moves_[item];
        for (int image = 0; image < images; ++image) {
            std::uint32_t bits = 0;
            for (int byte = 0; byte < 4; ++byte)
                if (move.source[byte] >= 0)
                    bits |= (arena[move.source[byte] + image].bits >> move.shift[byte] & 0xff) << (8 * byte);
            arena[move.target + image] = {bits};
        }
    }
}

float factor_of(const kind::ByteAverage& average, std::int64_t count) {
    return static_cast<float>(average.input_scale / (average.output_scale * static_cast<double>(count)));
}

void ByteMeans::run(const Word* source, Word* target, int images) const {
    for (const Window& window : windows_) {
        const float factor = factor_of(average_, static_cast<std::int64_t>(window.sources.size()));
        for (int image = 0; image < images; ++image) {
            std::int32_t sum = 0;
            for (const BytePlace& place : window.sources) sum += get(source, place, image) - average_.input_zero;
            put(target, window.target, image,
                byte_of(static_cast<float>(sum) * factor, average_.low, average_.high, average_.zero));
        }
    }
}

Averaged averaged_over(const Shape& source, const std::vector<std::int64_t>& axes) {
    Shape kept = source;
    for (std::int64_t axis : axes) kept[axis] = 1;
    std::vector<std::int64_t> strides = row_major(kept);
    for (std::int64_t axis : axes) strides[axis] = 0;
    const Offsets target = offsets_of(source, strides);
    Averaged averaged(static_cast<std::size_t>(elements(kept)));
    for (std::size_t i = 0; i < target.size(); ++i)
        averaged[static_cast<std::size_t>(target[i])].push_back(static_cast<std::int64_t>(i));
    return averaged;
}

Averaged averaged_adaptively(const Shape& source, const Shape& target) {
    Averaged averaged;
    const auto begin = [&](std::size_t axis, std::int64_t i) { return i * source[axis] / target[axis]; };
    const auto end = [&](std::size_t axis, std::int64_t i) {
        return ((i + 1) * source[axis] + target[axis] - 1) / target[axis];
    };
    for (std::int64_t c = 0; c < target[0]; ++c)
        for (std::int64_t y = 0; y < target[1]; ++y)
            for (std::int64_t x = 0; x < target[2]; ++x) {
                std::vector<std::int64_t> window;
                for (std::int64_t i = begin(1, y); i < end(1, y); ++i)
                    for (std::int64_t j = begin(2, x); j < end(2, x); ++j)
                        window.push_back((c * source[1] + i) * source[2] + j);
                averaged.push_back(std::move(window));
            }
    return averaged;
}

void ByteBroadcast::run(const Word* left, const Word* right, Word* target, int images) const {
    for (const Pair& pair : pairs)
        for (int image = 0; image < images; ++image) {
            const std::uint8_t a = get(left, pair.left, image), b = get(right, pair.right, image);
            float value;
            if (kind.product)
                value = static_cast<float>((a - kind.left_zero) * (b - kind.right_zero)) * kind.left_scale;
            else value = float_of(a, kind.left_zero, kind.left_scale) + float_of(b, kind.right_zero, kind.right_scale);
            put(target, pair.target, image, byte_of(value, kind.low, kind.high, kind.zero));
        }
}

void look_up_bytes(const std::array<std::uint8_t, 256>& table, const Word* from, Word* to, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t bits = from[i].bits;
        const auto at = [&](int byte) { return std::uint32_t{table[bits >> (8 * byte) & 0xff]} << (8 * byte); };
        to[i] = {at(0) | at(1) | at(2) | at(3)};
    }
}

}  // namespace secateur
