// The coder of weights, by itself: round trips, and bytes from strangers under the sanitizers.
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "check.hpp"
#include "secateur/codec.hpp"

namespace {

using namespace secateur::codec;

constexpr FloatLayout kSingle{8, 23}, kHalf{5, 10}, kBrain{8, 7};

std::vector<std::uint32_t> layer(std::size_t count, double density, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> value(0.0f, 0.1f);
    std::bernoulli_distribution kept(density);
    std::vector<std::uint32_t> words(count);
    for (auto& word : words) word = kept(random) ? std::bit_cast<std::uint32_t>(value(random)) : 0;
    return words;
}

template <typename Word>
bool survives(const std::vector<Word>& words, Matrix shape, FloatLayout layout, std::size_t lag = 0) {
    const auto bytes = encode_floats<Word>(words, shape, layout, lag);
    std::vector<Word> found(words.size());
    return decode_floats<Word>(bytes, shape, layout, std::span(found)).empty() && found == words;
}

std::vector<std::uint8_t> noise(std::size_t count, std::mt19937& random) {
    std::vector<std::uint8_t> bytes(count);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    return bytes;
}

}  // namespace

TEST(floats_of_every_width_density_and_shape_survive) {
    for (double density : {0.0, 0.001, 0.1, 0.5, 1.0}) {
        for (Matrix shape : {Matrix{1, 1}, Matrix{1, 3000}, Matrix{3000, 1}, Matrix{40, 75}, Matrix{2, 1500}}) {
            const auto words = layer(shape.rows * shape.cols, density, 1);
            CHECK(survives(words, shape, kSingle));
            CHECK(survives(words, shape, kSingle, 5));
            std::vector<std::uint16_t> narrow;
            for (auto word : words) narrow.push_back(static_cast<std::uint16_t>(word >> 16));
            CHECK(survives(narrow, shape, kBrain));
            CHECK(survives(narrow, shape, kHalf));
        }
    }
}

TEST(bits_of_any_kind_survive) {
    std::mt19937 random(2);
    std::vector<std::uint32_t> words(2000);
    for (auto& word : words) word = static_cast<std::uint32_t>(random());
    CHECK(survives(words, {20, 100}, kSingle));
    for (auto& word : words) word &= 0x80000000u;
    CHECK(survives(words, {20, 100}, kSingle));
    for (auto& word : words) word = 0x7FC00001u;
    CHECK(survives(words, {20, 100}, kSingle));
}

TEST(long_runs_of_certain_decisions_carry) {
    std::vector<std::uint32_t> words(100'000, 0);
    for (std::size_t at = 0; at < words.size(); at += 9973) words[at] = 0x3F800000u;
    CHECK(survives(words, {10, 10'000}, kSingle));
    const auto bytes = encode_floats<std::uint32_t>(words, {10, 10'000}, kSingle, 0);
    CHECK(bytes.size() < 60);
}

TEST(levels_survive_and_must_be_in_the_codebook) {
    std::mt19937 random(3);
    for (int most : {1, 3, 16, 256}) {
        std::vector<std::int16_t> levels(3000);
        for (auto& level : levels) {
            level = static_cast<std::int16_t>(static_cast<int>(random() % static_cast<unsigned>(2 * most + 1)) - most);
        }
        const auto bytes = encode_levels(levels, {30, 100}, 0);
        std::vector<std::uint16_t> book;
        for (int rank = 1; rank <= most; ++rank) book.push_back(static_cast<std::uint16_t>(rank));
        for (int rank = 1; rank <= most; ++rank) book.push_back(static_cast<std::uint16_t>(-rank));
        std::vector<std::uint16_t> found(levels.size());
        const auto count = static_cast<std::size_t>(most);
        CHECK((decode_levels<std::uint16_t>(bytes, {30, 100}, {book, count, count}, std::span(found)).empty()));
        for (std::size_t i = 0; i < levels.size(); ++i) CHECK(found[i] == static_cast<std::uint16_t>(levels[i]));
        CHECK((!decode_levels<std::uint16_t>(bytes, {30, 100}, {book, count, count + 1}, std::span(found)).empty()));
        book.resize(2 * count - 1);
        CHECK((!decode_levels<std::uint16_t>(bytes, {30, 100}, {book, count, count - 1}, std::span(found)).empty()));
    }
}

TEST(every_truncation_is_noticed) {
    const auto words = layer(600, 0.2, 4);
    const auto bytes = encode_floats<std::uint32_t>(words, {20, 30}, kSingle, 0);
    std::vector<std::uint32_t> found(words.size());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        CHECK(!decode_floats<std::uint32_t>(std::span(bytes).first(size), {20, 30}, kSingle, std::span(found)).empty());
    }
}

TEST(empty_matrices_are_refused_however_long_their_sides) {
    const std::vector<std::uint8_t> bytes{0, 100, 0, 0, 0, 0, 0, 128, 0};
    std::vector<std::uint32_t> none;
    for (Matrix shape : {Matrix{0, 1ull << 40}, Matrix{1ull << 40, 0}, Matrix{0, 0}, Matrix{1ull << 63, 2}}) {
        CHECK(!decode_floats<std::uint32_t>(bytes, shape, kSingle, std::span(none)).empty());
    }
}

// No checksum stands before the coder here: whatever the bytes, it ends, and stays within its arrays.
TEST(bytes_from_strangers_are_refused_or_read) {
    std::mt19937 random(5);
    std::vector<std::uint32_t> words(900);
    std::vector<std::uint16_t> narrow(900), book(40, 7);
    for (int round = 0; round < 20'000; ++round) {
        auto bytes = noise(random() % 200, random);
        if (bytes.size() > 9 && round % 2) {  // past the first checks
            bytes[2] %= 80, bytes[3] %= 24, bytes[4] %= 64, bytes[5] = 0, bytes[8] = bytes[9] % 40;
        }
        const Matrix shape = round % 3 == 0 ? Matrix{1, 900} : round % 3 == 1 ? Matrix{900, 1} : Matrix{30, 30};
        decode_floats<std::uint32_t>(bytes, shape, kSingle, std::span(words));
        decode_floats<std::uint16_t>(bytes, shape, kHalf, std::span(narrow));
        decode_levels<std::uint16_t>(bytes, shape, {book, 15, 25}, std::span(narrow));
    }
}

TEST(flipped_bits_never_leave_the_arrays) {
    const auto words = layer(600, 0.3, 6);
    const auto bytes = encode_floats<std::uint32_t>(words, {20, 30}, kSingle, 0);
    std::vector<std::uint32_t> found(words.size());
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
        auto flipped = bytes;
        flipped[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
        decode_floats<std::uint32_t>(flipped, {20, 30}, kSingle, std::span(found));
    }
}
