#include "lowerings/crossing.hpp"

namespace secateur {
namespace {

// Of each channel, gaps and borders included.
std::int64_t plane_extent(const Storage& storage, int images) {
    if (storage.dims.size() <= 1) return images;
    if (storage.folded) return storage.strides[1] * (storage.part_height() + (storage.origin > 0 ? 2 : 0));
    return storage.dims[1] * storage.strides[1];
}

}  // namespace

Crossing crossing_of(const Shape& whole, const Storage& floats, const Storage& words, int images) {
    if (whole.empty()) return {{{{0, -1, -1, -1}, 0}}, images, false};
    const std::size_t axis = packed_axis(whole);
    // Rows side by side, as pixels of planes are.
    const bool planes = axis == 1 && images == 1 && floats.strides[0] == 1 && words.strides[0] == 1;
    Crossing crossing{{}, plane_extent(words, images), !planes && images == 1 && axis + 1 == whole.size()};
    const std::int64_t channels = whole[axis], rows = axis == 1 && !planes ? whole[0] : 1;
    if (crossing.lines) {
        crossing.count = channels;
        for (std::int64_t row = 0; row < rows; ++row) {
            const std::int64_t at = axis == 1 ? row : 0;
            crossing.groups.push_back({{at * floats.strides[0], -1, -1, -1}, at * words.strides[0]});
        }
        return crossing;
    }
    if (axis == 1) crossing.count = planes ? whole[0] : images;
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t word = 0; word < words.dims[axis]; ++word) {
            const std::int64_t at = axis == 1 ? row : 0;
            Crossing::Group group{{-1, -1, -1, -1},
                                  word * words.strides[axis] + (axis == 1 ? at * words.strides[0] : 0)};
            for (std::int64_t i = 0; i < 4 && 4 * word + i < channels; ++i)
                group.floats[i] = (4 * word + i) * floats.strides[axis] + (axis == 1 ? at * floats.strides[0] : 0);
            crossing.groups.push_back(group);
        }
    return crossing;
}

void quantise_groups(const Bytes& bytes, const Crossing& crossing, const kind::Quantise& how, const float* floats,
                     Word* words) {
    quantise_groups(bytes, crossing, how, 0, static_cast<std::int64_t>(crossing.groups.size()), floats, words);
}

void quantise_groups(const Bytes& bytes, const Crossing& crossing, const kind::Quantise& how, std::int64_t begin,
                     std::int64_t end, const float* floats, Word* words) {
    for (std::int64_t item = begin; item < end; ++item) {
        const Crossing::Group& group = crossing.groups[item];
        if (crossing.lines) {
            bytes.quantise_line({floats + group.floats[0], reinterpret_cast<std::uint8_t*>(words + group.words),
                                 crossing.count, how.inverse, how.low, how.high, how.zero});
            continue;
        }
        Quantising run{{}, words + group.words, crossing.count, how.inverse, how.low, how.high, how.zero};
        for (int i = 0; i < 4; ++i)  // of a channel that is missing: anything
            run.planes[i] = floats + group.floats[group.floats[i] < 0 ? 0 : i];
        bytes.quantise(run);
    }
}

}  // namespace secateur
