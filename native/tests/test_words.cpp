// What only moves must come out bit for bit, whatever its bits would mean as a float: signalling NaNs and denormals too.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "check.hpp"
#include "kernels.hpp"
#include "operations.hpp"
#include "secateur/cpu.hpp"
#include "secateur/session.hpp"
#include "storage.hpp"

using secateur::Network;
using secateur::Node;
using secateur::Shape;
using secateur::Storage;
using secateur::Word;

namespace {

using Bits = std::vector<std::uint32_t>;

// Signalling and quiet NaNs of either sign, denormals, −0 and bytes of four small numbers, all different.
Bits awkward(std::int64_t count) {
    const std::uint32_t patterns[] = {0x7f800001u, 0xff800001u, 0x7fc00000u, 0x00000001u,
                                      0x80000001u, 0x80000000u, 0x01020304u};
    Bits bits;
    for (std::uint32_t i = 0; i < count; ++i) bits.push_back(patterns[i % 7] + (i / 7 << 2));
    return bits;
}

Node make_node(const char* op, std::vector<int> inputs, Shape shape,
               std::map<std::string, std::vector<std::int64_t>> integers = {}) {
    Node node{op, op, std::move(inputs), {}, std::move(integers), {}, {}, {}};
    node.shape = std::move(shape);
    return node;
}

// (6, 5, 4) → (6, 20) → (20, 6); two slices of that, put together the other way round; → (10, 4, 3)
Network moves() {
    return {{{6, 5, 4}},
            {make_node("reshape", {0}, {6, 20}), make_node("permute", {1}, {20, 6}, {{"axes", {2, 1}}}),
             make_node("slice", {2}, {7, 6}, {{"axis", {1}}, {"start", {0}}}),
             make_node("slice", {2}, {13, 6}, {{"axis", {1}}, {"start", {7}}}),
             make_node("concat", {4, 3}, {20, 6}, {{"axis", {1}}}), make_node("reshape", {5}, {10, 4, 3})},
            {6, 0}};
}

Bits moved(const Bits& image) {
    Bits result;
    for (int i = 0; i < 20; ++i)
        for (int j = 0; j < 6; ++j) result.push_back(image[static_cast<std::size_t>(j * 20 + (i + 7) % 20)]);
    return result;
}

// The words of a value of one image, wherever they lie.
std::vector<std::int64_t> places(const Storage& storage) {
    std::vector<std::int64_t> found;
    const std::int64_t height = storage.part_height(), width = storage.part_width();
    for (std::int64_t c = 0; c < storage.dims[0]; ++c)
        for (std::int64_t y = 0; y < storage.dims[1]; ++y)
            for (std::int64_t x = 0; x < storage.dims[2]; ++x)
                found.push_back(storage.origin + c * storage.strides[0] + y % height * storage.strides[1] +
                                x % width * storage.strides[2] +
                                (storage.folded ? y / height * storage.parts_x + x / width : 0));
    return found;
}

std::vector<Word> laid_out(const Bits& bits, const Storage& storage) {
    std::vector<Word> words(static_cast<std::size_t>(storage.size));
    const auto where = places(storage);
    for (std::size_t i = 0; i < bits.size(); ++i) words[static_cast<std::size_t>(where[i])] = {bits[i]};
    return words;
}

Bits read_back(const std::vector<Word>& words, const Storage& storage) {
    Bits bits;
    for (std::int64_t place : places(storage)) bits.push_back(words[static_cast<std::size_t>(place)].bits);
    return bits;
}

}  // namespace

TEST(reshape_permute_slice_and_concat_move_any_bits) {
    for (const auto* kernels : secateur::runnable_kernels())
        for (std::int64_t images : {1, 3, 16, 37}) {
            const Bits input = awkward(images * 120);
            Bits right, output(input.size()), copied(input.size());
            for (std::int64_t image = 0; image < images; ++image) {
                const Bits one = moved({input.begin() + image * 120, input.begin() + (image + 1) * 120});
                right.insert(right.end(), one.begin(), one.end());
            }
            secateur::Session session(moves(), *kernels, {}, 1);
            const void* from = input.data();
            void* to[] = {output.data(), copied.data()};
            session.run(&from, to, images);
            CHECK(output == right);
            CHECK(copied == input);
        }
}

TEST(folding_and_unfolding_move_any_bits) {
    for (const auto* kernels : secateur::runnable_kernels())
        for (bool bordered : {false, true}) {
            const Shape dims{3, 16, 24};
            const Storage planar = secateur::make_storage(dims, 1, kernels->lanes),
                          folded = secateur::make_folded(dims, kernels->lanes, bordered);
            const Bits bits = awkward(secateur::elements(dims));
            const std::vector<Word> source = laid_out(bits, planar);
            std::vector<Word> there(static_cast<std::size_t>(folded.size)), back(source.size());
            secateur::Conversion(planar, folded).run(0, 3, source.data(), there.data());
            CHECK(read_back(there, folded) == bits);
            secateur::Conversion(folded, planar).run(0, 3, there.data(), back.data());
            CHECK(read_back(back, planar) == bits);
        }
}

TEST(interleaving_moves_any_bits) {
    for (const auto* kernels : secateur::runnable_kernels())
        for (std::int64_t rows : {1, 7, 16})
            for (std::int64_t columns : {1, 9, 40}) {
                const Bits bits = awkward(rows * columns);
                std::vector<Word> source, target(bits.size());
                for (std::uint32_t each : bits) source.push_back({each});
                kernels->transpose(source.data(), columns, target.data(), rows, rows, columns);
                bool same = true;
                for (std::int64_t i = 0; i < rows; ++i)
                    for (std::int64_t j = 0; j < columns; ++j)
                        same = same && target[static_cast<std::size_t>(j * rows + i)].bits ==
                                           bits[static_cast<std::size_t>(i * columns + j)];
                CHECK(same);
            }
}

TEST(packing_moves_any_bits) {
    constexpr int kWidth = 64, kChannels = 2;
    for (const auto* kernels : secateur::runnable_kernels()) {
        const Bits bits = awkward(kChannels * kWidth);
        alignas(64) Word source[kChannels * kWidth + secateur::kOverread], target[kChannels * 3 * 16];
        std::memset(source, 0, sizeof source), std::memset(target, 0xff, sizeof target);
        for (std::size_t i = 0; i < bits.size(); ++i) source[i] = {bits[i]};
        for (int stride : {1, 2, 3}) {
            const std::uint64_t mask = 0x5bd6f7be9d3efull & ((std::uint64_t{1} << (15 * stride + 3)) - 1);
            const std::int32_t shifts[] = {0, 1, 2};
            const secateur::RowPiece piece{3, 0, mask, 16};
            kernels->pack_rows({source, kWidth, 48, 16, target, &piece, shifts, 1, kChannels, 3, stride});
            bool same = true;
            for (int c = 0; c < kChannels; ++c)
                for (int copy = 0; copy < 3; ++copy)
                    for (int x = 0; x < 16; ++x) {
                        const int at = x * stride + shifts[copy];
                        const std::uint32_t right =
                            (mask >> at & 1) != 0 ? bits[static_cast<std::size_t>(c * kWidth + 3 + at)] : 0;
                        same = same && target[(c * 3 + copy) * 16 + x].bits == right;
                    }
            CHECK(same);
        }
        const secateur::PixelPiece pixels{16, 0, 2};
        kernels->pack_pixels({source, kWidth, 48, 16, target, &pixels, 1, kChannels, 16});
        for (int c = 0; c < kChannels; ++c)
            CHECK(std::memcmp(target + c * 48, source + c * kWidth + 16, 32 * sizeof(Word)) == 0);
    }
}

TEST(borders_move_any_bits) {
    for (const auto* kernels : secateur::runnable_kernels()) {
        const int lanes = kernels->lanes;
        const Bits bits = awkward(lanes);
        std::vector<std::int32_t> from(static_cast<std::size_t>(lanes));
        std::iota(from.begin(), from.end(), -1);  // the first lane is zero, every other one its neighbour
        alignas(64) Word plane[2 * 16];
        for (int lane = 0; lane < lanes; ++lane) plane[lane] = {bits[static_cast<std::size_t>(lane)]};
        const secateur::BorderMove move{0, lanes, 0};
        kernels->fill_border({plane, 2 * lanes, 1, &move, 1, from.data()});
        CHECK(plane[lanes].bits == 0);
        CHECK(std::equal(bits.begin(), bits.end() - 1, plane + lanes + 1,
                         [](std::uint32_t a, Word b) { return a == b.bits; }));
    }
}
