// A convolution compiled for one memory layout: tiles, packing, and the streams of non-zeros in the order of use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "kinds.hpp"
#include "secateur/costs.hpp"
#include "shelf.hpp"

namespace secateur {

// Where the elements of (channel, row, column) lie, in words. images: how many lie side by side at each; 1: planar,
// that is, columns are contiguous and rows `row` words apart, of which those behind the width hold nothing.
struct Planes {
    std::int64_t channels, height, width;
    std::int64_t channel, row, column;
    int images;
};

struct ConvolutionShape {
    std::int64_t channels, outputs, kernel_y, kernel_x, stride_y, stride_x, top, left, dilation_y, dilation_x, groups;
};

// What fills the border of a folded output, plane by plane. Places are counted from the first pixel.
struct Border {
    std::vector<BorderMove> moves;
    std::vector<std::int32_t> lanes;  // [9][lanes]: where each lane comes from, -1: `fill`
    Word fill{0};
};

// How a layer is computed, and what that should cost.
struct Choice {
    const TileVariant* variant = nullptr;
    int rows = 1, columns = 1;  // interleaved: of a tile, in output pixels; planar: rows, and words per row
    int image_vectors = 1;      // interleaved: vectors of images per pixel of a tile
    std::int64_t block = 0;     // input channels at a time
    bool in_place = false;      // 1×1: inputs are read where they lie
    double cycles = 0;          // predicted, for a whole layer
};

class Convolution {
   public:
    // Shapes and planes are counted in words, outputs too, but for bytes: those rounded up to whole words.
    // choice: one of choices(). parts: into how many parts the outputs are divided where there are few tiles. border:
    // that the layer fills too.
    Convolution(const Filter& filter, Clamp clamp, const ConvolutionShape& shape, const Planes& input,
                const Planes& output, const Kernels& kernels, const Costs& costs, const Choice& choice, int parts,
                const Border& border = {});

    // All the choices that make sense, the one that should be fastest first; none for what is too large.
    static std::vector<Choice> choices(const Filter& filter, const ConvolutionShape& shape, const Planes& input,
                                       const Planes& output, const Kernels& kernels, const Costs& costs);

    std::int64_t items() const { return static_cast<std::int64_t>(tiles_.size()) * parts_; }
    std::size_t scratch_words() const { return scratch_; }
    void shelve(Shelf& shelf) { shelf.add(entries_), shelf.add(weights_), shelf.add(offsets_); }
    // Items [begin, end) of the layer. scratch: aligned, the caller's own.
    void run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual, Word* output,
             Word* scratch) const;

    double cycles() const { return choice_.cycles; }  // predicted
    std::int64_t nonzeros() const { return nonzeros_; }
    std::size_t bytes() const;  // of the streams
    std::string describe() const;

   private:
    struct Tile {
        std::int64_t input, output;
        std::uint32_t valid;
        std::int32_t piece_begin, piece_end, cls, move_begin = 0, move_end = 0;
    };
    struct Block {
        std::int64_t channel, channels;
        std::size_t entry, shared, single;  // first entry; how many are for the variant, how many one by one
        std::size_t weight, offset, single_weight, single_offset;
    };
    struct Geometry;
    class Builder;

    const Kernels& kernels_;
    Choice choice_;
    const TileVariant* single_ = nullptr;
    bool planar_ = false, in_place_ = false;
    int parts_ = 1;
    std::int64_t outputs_ = 0;
    std::vector<Tile> tiles_;
    std::vector<PixelPiece> pixel_pieces_;
    std::vector<RowPiece> row_pieces_;
    std::vector<std::int32_t> places_, shifts_;
    std::vector<BorderMove> moves_;
    std::vector<std::int32_t> lanes_;
    std::int64_t copy_stride_ = 0;
    std::int64_t packed_channel_ = 0, row_step_ = 0, input_channel_ = 0, output_channel_ = 0, pixel_step_ = 0;
    int pixel_width_ = 0, row_stride_ = 1;
    std::vector<std::vector<Block>> blocks_;  // per class of tiles and part
    Shelved<Entry> entries_;
    Shelved<Word> weights_;
    Shelved<std::uint16_t> offsets_;
    std::vector<std::vector<Word>> bias_;       // per class of tiles
    std::shared_ptr<const ByteWeights> bytes_;  // of eight bits
    Word fill_{0}, output_fill_{0};             // beyond the borders of the input and of a folded output
    Clamp clamp_;
    std::int64_t nonzeros_ = 0;
    std::size_t scratch_ = 0, packed_words_ = 0;
};

}  // namespace secateur
