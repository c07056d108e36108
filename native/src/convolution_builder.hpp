// How a Convolution is made: what it could look like, what that would cost, and the tables of the choice.
#pragma once

#include <span>
#include <tuple>
#include <vector>

#include "convolution.hpp"
#include "convolution_problem.hpp"
#include "memory.hpp"

namespace secateur {

// The packed tile: where each tap of channel 0 begins, and what a channel takes.
struct Convolution::Geometry {
    std::vector<std::int64_t> taps;  // words, −1: unused
    std::int64_t channel_words = 0, row_step = 0, tiles = 0, used_taps = 0;
    double pack_cycles = 0;  // per channel and tile
    double words = 0;        // per channel that a tile reads
    double work = 1;         // share of the used taps that a tile needs, on average
    // Tiles differ in which taps see anything but padding; each class has streams of its own.
    std::vector<std::vector<bool>> classes;
    // interleaved
    std::vector<std::int64_t> row_base, column_base;
    std::int64_t row_length = 0;
    // Planar: rows per (row class, phase), each with one copy per column of the kernel, shifted by that. Where a shift
    // is too far for one piece, groups hold one column each instead.
    struct Group {
        std::int64_t kx, cls, low, high, base;  // kx: the first column
    };
    std::vector<Group> groups;
    std::vector<std::int32_t> shifts;
    std::int64_t copy_stride = 0;
    int piece_width = 16;
    std::int64_t pieces = 0;  // per tile
};

class Convolution::Builder {
   public:
    Builder(const Filter& filter, const ConvolutionShape& shape, const Planes& input, const Planes& output,
            const Kernels& kernels, const Costs& costs)
        : filter_(filter), kernels_(kernels), costs_(costs), problem_(make_problem(shape, input, output)),
          counts_(count(filter, problem_)), narrow_(filter.bytes && kernels.bytes->narrow),
          halves_(narrow_ && has_wide(*filter.bytes)) {}

    std::vector<Choice> choices() const;

    void build(Convolution& target, const Choice& choice, int parts, const Border& border) const;

   private:
    struct Taken {
        std::uint16_t offset;
        Word weight;
    };

    struct Group {
        Entry entry{};
        std::vector<Word> weights;
        std::vector<std::uint16_t> offsets;
        bool keep = true;
    };

    // What the input channels [begin, end) add to the outputs [out_begin, out_end).
    struct Pending {
        std::int64_t begin, end;
        std::vector<Group> shared, single;
    };

    bool planar() const { return problem_.output.images == 1; }
    int lanes() const { return kernels_.lanes; }
    std::span<const TileVariant> variants() const {
        if (filter_.bytes) return {kernels_.bytes->variants, static_cast<std::size_t>(kernels_.bytes->variant_count)};
        return {kernels_.variants, static_cast<std::size_t>(kernels_.variant_count)};
    }
    const Cycles& cycles() const { return filter_.bytes ? kernels_.bytes->cycles : kernels_.cycles; }
    // Of a vector multiply-add.
    double cycle() const { return cycles().multiply_add; }
    const TileVariant* single_for(const TileVariant& variant) const;
    // The tiles that a variant can have here.
    std::vector<Choice> shapes(const TileVariant& variant) const;
    // Whether tiles can be read from the planes as they are: whole, every tap a contiguous run on cache lines.
    bool lies_ready(const Choice& choice) const { return planar() ? rows_lie_ready(choice) : pixels_lie_ready(choice); }
    bool rows_lie_ready(const Choice& choice) const;
    bool pixels_lie_ready(const Choice& choice) const;
    Geometry in_place_layout(const Choice& choice) const;
    std::int64_t output_pitch() const {
        return problem_.output.height == 1 ? round_up(problem_.output.width, lanes()) : problem_.output.row;
    }
    void add_blocks(Choice choice, std::vector<Choice>& found) const;
    double predict(const Choice& choice, const Geometry& geometry) const;
    // How much longer a multiply-add takes that reads from a packed block of so many bytes than one that reads from L1.
    double distance(double bytes) const;
    Geometry layout(const Choice& choice) const {
        if (choice.in_place) return in_place_layout(choice);
        return planar() ? planar_layout(choice) : interleaved_layout(choice);
    }
    Geometry interleaved_layout(const Choice& choice) const;
    // Whether tap k sees anything but padding from one of the outputs [first, first + count).
    static bool sees(const Axis& axis, std::int64_t dilation, std::size_t k, std::int64_t first, std::int64_t count);
    struct Sights {
        std::vector<std::vector<bool>> taps;  // distinct
        std::vector<std::int64_t> tiles;      // that have them
        std::vector<std::int64_t> of_tile;
    };
    static Sights sights(const Axis& axis, std::int64_t dilation, std::int64_t step);
    static std::vector<bool> taps_of(const std::vector<bool>& rows, const std::vector<bool>& columns);
    void find_classes(Geometry& g, const Choice& choice) const;
    Geometry planar_layout(const Choice& choice) const;
    void make_tiles_in_place(Convolution& target, const Choice& choice) const;
    // Where every vector of a tile goes.
    void make_places(Convolution& target, const Choice& choice) const;
    // Every tile fills what it holds of the border.
    static void make_moves(Convolution& target, const Border& border);
    void make_interleaved_tiles(Convolution& target, const Geometry& g, const Choice& choice) const;
    // Rows of the packed tile that one of the taps reads.
    std::vector<bool> needed_rows(const Geometry& g, const Choice& choice, const std::vector<bool>& taps) const;
    void make_planar_tiles(Convolution& target, const Geometry& g, const Choice& choice) const;
    RowPiece row_piece(const Geometry& g, const Geometry::Group& group, std::int64_t oy, std::int64_t ox,
                       std::int64_t j, std::int64_t chunk, std::int64_t pitch) const;
    // The non-zeros of one output in input channels [begin, end) of the network, relative to the block's first channel.
    std::vector<Taken> take(const Geometry& g, const std::vector<bool>& taps_used, std::int64_t output,
                            std::int64_t begin, std::int64_t end, std::int64_t origin, bool zeros) const;
    Group single_group(const Geometry& g, const std::vector<bool>& used, std::int64_t output, std::int64_t begin,
                       std::int64_t end) const;
    Group four_group(const Geometry& g, const std::vector<bool>& used, std::int64_t output, std::int64_t begin,
                     std::int64_t end) const;
    Group paired_group(const Geometry& g, const std::vector<bool>& used, std::int64_t output, std::int64_t begin,
                       std::int64_t end) const;
    Group dense_group(const Geometry& g, const std::vector<bool>& used, std::int64_t output, std::int64_t begin,
                      std::int64_t end, int outputs) const;
    Group make_group(const Geometry& g, const std::vector<bool>& used, const TileVariant& variant, std::int64_t output,
                     std::int64_t begin, std::int64_t end) const;
    // Groups of one block, those with the same flags and counts together so that loop exits predict.
    static void append(Convolution& target, std::vector<Group>& groups, bool dense);
    void make_streams(Convolution& target, const Geometry& g, const Choice& choice) const;
    Pending pending(const Geometry& g, const std::vector<bool>& used, const TileVariant& variant,
                    const TileVariant& single, std::int64_t begin, std::int64_t end, std::int64_t out_begin,
                    std::int64_t out_end) const;
    // Groups that add nothing are dropped, but one of every output stays: it writes the bias. The first of what stays
    // starts an output's sum, the last one finishes it.
    static void settle(std::vector<Pending>& blocks, std::vector<Group> Pending::* list);

    const Filter& filter_;
    const Kernels& kernels_;
    const Costs& costs_;
    Problem problem_;
    Counts counts_;
    bool narrow_, halves_;  // whether wide words are two, whether all words of dense tiles are
};

}  // namespace secateur
