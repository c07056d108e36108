// A convolution or fully connected layer between two values as they lie in the arena.
#pragma once

#include <optional>

#include "convolution.hpp"
#include "storage.hpp"

namespace secateur {

struct Site {
    ConvolutionShape shape;
    Planes input, output;
    std::int64_t input_offset = 0, output_offset = 0;  // words, from the places of the values
};

Site convolution_site(const kind::Convolution& layer, const Storage& input, const Storage& output, int images);
// The axes before the last one, of one image, as a plane of pixels; none where they are no such plane.
struct RowPlane {
    std::int64_t height, width, row;  // row: words from one to the next
};
std::optional<RowPlane> row_plane(const Storage& storage);
// Of a fully connected layer over interleaved images, or over row planes.
Site linear_site(const Filter& filter, const Storage& input, const Storage& output, int images);
// Whether both values of a convolution can be folded: parts meet the same taps, in themselves and their borders.
bool folds(const kind::Convolution& layer, const Storage& input, const Storage& output);

}  // namespace secateur
