#include "convolution.hpp"

#include <algorithm>
#include <stdexcept>

#include "convolution_builder.hpp"

namespace secateur {

void Convolution::Builder::build(Convolution& target, const Choice& choice, int parts, const Border& border) const {
    target.choice_ = choice;
    target.planar_ = planar();
    target.outputs_ = problem_.shape.outputs;
    if (filter_.bytes) target.bytes_ = filter_.bytes, target.fill_ = filter_.bytes->fill();
    target.single_ = single_for(*choice.variant);
    const Geometry geometry = layout(choice);
    target.packed_channel_ = geometry.channel_words;
    target.row_step_ = geometry.row_step;
    target.input_channel_ = problem_.input.channel;
    target.output_channel_ = problem_.output.channel;
    target.in_place_ = choice.in_place;
    if (choice.in_place) make_tiles_in_place(target, choice);
    else if (planar()) make_planar_tiles(target, geometry, choice);
    else make_interleaved_tiles(target, geometry, choice);
    for (const std::vector<bool>& used : geometry.classes) target.bias_.push_back(filter_.biases(kernels_, used));
    make_moves(target, border);
    target.output_fill_ = border.fill;
    const std::int64_t most = std::max<std::int64_t>(1, problem_.shape.outputs / std::max(8, choice.variant->outputs));
    target.parts_ = static_cast<int>(std::clamp<std::int64_t>(parts, 1, problem_.shape.groups > 1 ? 1 : most));
    make_streams(target, geometry, choice);
}

const TileVariant* Convolution::Builder::single_for(const TileVariant& variant) const {
    for (const TileVariant& each : variants()) {
        const bool single = !each.dense && !each.patterns && each.outputs == (filter_.bytes ? 4 : 1);
        if (single && each.rows == variant.rows && each.columns == variant.columns) return &each;
    }
    throw std::logic_error("no kernel for single outputs of this tile");
}

std::vector<Choice> Convolution::choices(const Filter& filter, const ConvolutionShape& shape, const Planes& input,
                                         const Planes& output, const Kernels& kernels, const Costs& costs) {
    return Builder(filter, shape, input, output, kernels, costs).choices();
}

Convolution::Convolution(const Filter& filter, Clamp clamp, const ConvolutionShape& shape, const Planes& input,
                         const Planes& output, const Kernels& kernels, const Costs& costs, const Choice& choice,
                         int parts, const Border& border)
    : kernels_(kernels), clamp_(clamp) {
    Builder(filter, shape, input, output, kernels, costs).build(*this, choice, parts, border);
}

void Convolution::run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual, Word* output,
                      Word* scratch) const {
    TileRun tile_run{};
    tile_run.inputs = scratch;
    tile_run.row_step = row_step_;
    tile_run.sums = scratch + packed_words_;
    tile_run.fill = output_fill_;
    if (bytes_) tile_run.end = bytes_->end, tile_run.end.multipliers = bytes_->multipliers.data();
    tile_run.channel_stride = output_channel_;
    tile_run.places = places_.data();
    tile_run.lanes = lanes_.data();
    tile_run.low = clamp_.low, tile_run.high = clamp_.high;
    for (std::int64_t item = begin; item < end; ++item) {
        const Tile& tile = tiles_[item / parts_];
        tile_run.output = output + tile.output;
        tile_run.residual = residual == nullptr ? nullptr : residual + tile.output;
        tile_run.valid = tile.valid;
        tile_run.bias = bias_[tile.cls].data();
        tile_run.moves = moves_.data() + tile.move_begin, tile_run.move_count = tile.move_end - tile.move_begin;
        for (const Block& block : blocks_[tile.cls * parts_ + item % parts_]) {
            const Word* source = input + tile.input + block.channel * input_channel_;
            const int channels = static_cast<int>(block.channels), pieces = tile.piece_end - tile.piece_begin;
            if (in_place_) tile_run.inputs = source;
            else if (planar_)
                kernels_.pack_rows({source, input_channel_, packed_channel_, copy_stride_, scratch,
                                    row_pieces_.data() + tile.piece_begin, shifts_.data(), pieces, channels,
                                    static_cast<int>(shifts_.size()), row_stride_, fill_});
            else
                kernels_.pack_pixels({source, input_channel_, packed_channel_, pixel_step_, scratch,
                                      pixel_pieces_.data() + tile.piece_begin, pieces, channels, pixel_width_, fill_});
            tile_run.entries = entries_.data() + block.entry;
            tile_run.entry_count = block.shared;
            tile_run.weights = weights_.data() + block.weight;
            tile_run.offsets = offsets_.data() + block.offset;
            choice_.variant->run(tile_run);
            if (block.single == 0) continue;
            tile_run.entries += block.shared;
            tile_run.entry_count = block.single;
            tile_run.weights = weights_.data() + block.single_weight;
            tile_run.offsets = offsets_.data() + block.single_offset;
            single_->run(tile_run);
        }
    }
}

std::size_t Convolution::bytes() const {
    return weights_.size() * sizeof(Word) + offsets_.size() * sizeof(std::uint16_t) + entries_.size() * sizeof(Entry);
}

std::string Convolution::describe() const {
    const TileVariant& variant = *choice_.variant;
    std::string text = bytes_ ? "int8 " : "";
    text += variant.dense ? "dense" : variant.patterns ? "paired" : "sparse";
    if (variant.dense) text += " ×" + std::to_string(variant.outputs);
    text += ", tile " + std::to_string(choice_.rows) + "×" + std::to_string(choice_.columns);
    if (!planar_) text += "×" + std::to_string(choice_.image_vectors * kernels_.lanes) + " images";
    if (choice_.in_place) text += ", in place";
    return text + ", " + std::to_string(choice_.block) + " channels a block";
}

}  // namespace secateur
