// Where the words of a value lie in the arena.
//
// A word holds one element, or as many consecutive channels as fit into its 32 bits. Behind words_of all is counted in
// words: shapes, strides, places, borders and copies.
//
// One image: rows contiguous, in whole vectors or fractions of one (planar), or *folded*: the image is cut into as many
// equal parts as a vector has lanes, and the lanes of a vector hold the same pixel of every part. Where a
// kernel larger than a pixel reads them, parts have a border of one pixel, so that the taps of a kernel, for a run of
// pixels, are a contiguous run of vectors.
// Several images: side by side at every element (interleaved).
#pragma once

#include <cstdint>
#include <vector>

#include "secateur/graph.hpp"

namespace secateur {

// The axis of channels: the first, but of rows of features (tokens) the last.
std::size_t packed_axis(const Shape& shape);
// The shape of a value in words.
Shape words_of(Shape shape, Element element);

struct Storage {
    Shape dims;                         // words
    std::vector<std::int64_t> strides;  // words; folded: within a part
    std::int64_t size = 0;              // words
    // Folded:
    bool folded = false;
    std::int64_t parts_y = 1, parts_x = 1;  // into which the image is cut
    std::int64_t origin = 0;                // of the first pixel, behind the border

    std::int64_t part_height() const { return dims[1] / parts_y; }
    std::int64_t part_width() const { return dims[2] / parts_x; }
};

Storage make_storage(const Shape& dims, int images, int lanes);
// One image, row-major, without gaps.
Storage make_dense(const Shape& dims);
// Of one image. dims must be foldable. bordered: with room for a border, for kernels larger than a pixel.
Storage make_folded(const Shape& dims, int lanes, bool bordered);
bool foldable(const Shape& dims, int lanes);
// Images of so few pixels that vectors are filled across channels: kept without gaps.
bool tiny(const Shape& dims, int lanes);
// Whether a convolution that makes such an image is a product of a matrix and a vector, not too large a one.
bool few_pixels(const Shape& input, const Shape& output, int lanes);
// Without gaps.
bool dense(const Storage& storage, int images);

}  // namespace secateur
