#include "secateur/convolution.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <tuple>

#include "secateur/memory.hpp"

namespace secateur {
namespace {

constexpr std::int64_t kOffsetLimit = 2 * 65536;  // floats that 16 bits in units of two reach

// One dimension of the kernel. Output i reads input i·stride + k·dilation − before at tap k: in units of the stride,
// that is element i + shift[k] of the inputs whose index has a certain residue. Taps that see only padding are
// unused; the residues of the others are numbered as classes.
struct Axis {
    std::int64_t stride, before, size, out;
    std::vector<bool> used;
    std::vector<std::int64_t> cls, shift;
    std::vector<std::int64_t> residue, low, high;  // per class: smallest and largest shift

    Axis(std::int64_t kernel, std::int64_t stride_, std::int64_t dilation, std::int64_t before_, std::int64_t size_,
         std::int64_t out_)
        : stride(stride_), before(before_), size(size_), out(out_) {
        for (std::int64_t k = 0; k < kernel; ++k) {
            bool any = false;
            for (std::int64_t i = 0; i < out && !any; ++i) {
                const std::int64_t at = i * stride + k * dilation - before;
                any = at >= 0 && at < size;
            }
            used.push_back(any);
            const std::int64_t rest = k * dilation % stride, q = k * dilation / stride;
            shift.push_back(q);
            cls.push_back(-1);
            if (!any) continue;
            const auto found = std::find(residue.begin(), residue.end(), rest);
            cls.back() = found - residue.begin();
            if (found == residue.end()) residue.push_back(rest), low.push_back(q), high.push_back(q);
            low[cls.back()] = std::min(low[cls.back()], q), high[cls.back()] = std::max(high[cls.back()], q);
        }
    }

    std::int64_t classes() const { return static_cast<std::int64_t>(residue.size()); }
    // How many elements of a class the outputs [i, i + count) read, for any i.
    std::int64_t length(std::int64_t c, std::int64_t count) const { return high[c] - low[c] + count; }
    // The input index of element j of class c when the tile starts at output i.
    std::int64_t index(std::int64_t c, std::int64_t i, std::int64_t j) const {
        return (i + low[c] + j) * stride + residue[c] - before;
    }
};

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Problem {
    ConvolutionShape shape;
    Planes input, output;
    Axis y, x;
};

// A 1×1 convolution of contiguous planes sees one long row.
Problem make_problem(ConvolutionShape shape, Planes input, Planes output) {
    const bool pointwise = shape.kernel_y == 1 && shape.kernel_x == 1 && shape.stride_y == 1 && shape.stride_x == 1 &&
                           shape.top == 0 && shape.left == 0 && input.height == output.height &&
                           input.width == output.width;
    const bool planar = output.images == 1;
    const auto contiguous = [&](const Planes& p) {
        return planar ? p.row == output.row : p.row == p.width * p.column;
    };
    if (pointwise && contiguous(input) && contiguous(output)) {
        for (Planes* each : {&input, &output}) {
            each->width = planar ? each->height * each->row : each->height * each->width;
            each->height = 1;
            each->row = each->width * each->column;
        }
    }
    return {shape, input, output,
            Axis(shape.kernel_y, shape.stride_y, shape.dilation_y, shape.top, input.height, output.height),
            Axis(shape.kernel_x, shape.stride_x, shape.dilation_x, shape.left, input.width, output.width)};
}

struct Counts {
    std::int64_t used = 0, nonzero = 0;  // weights whose taps are used
};

Counts count(const Operation& operation, const Problem& problem) {
    Counts counts;
    const ConvolutionShape& s = problem.shape;
    const std::int64_t per_output = s.channels / s.groups, taps = s.kernel_y * s.kernel_x;
    std::vector<bool> used;
    for (std::int64_t ky = 0; ky < s.kernel_y; ++ky)
        for (std::int64_t kx = 0; kx < s.kernel_x; ++kx) used.push_back(problem.y.used[ky] && problem.x.used[kx]);
    for (std::int64_t i = 0; i < s.outputs * per_output; ++i)
        for (std::int64_t tap = 0; tap < taps; ++tap)
            if (used[tap]) ++counts.used, counts.nonzero += operation.weight.data[i * taps + tap] != 0.0f;
    return counts;
}

}  // namespace

// The packed tile: where each tap of channel 0 begins, and what a channel takes.
struct Convolution::Geometry {
    std::vector<std::int64_t> taps;  // floats, −1: unused
    std::int64_t channel_floats = 0, row_step = 0, tiles = 0, used_taps = 0;
    double pack_cycles = 0;          // per channel and tile
    double work = 1;                 // share of the used taps that a tile needs, on average
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
};

class Convolution::Builder {
   public:
    Builder(const Operation& operation, const ConvolutionShape& shape, const Planes& input, const Planes& output,
            const Kernels& kernels)
        : operation_(operation), kernels_(kernels), problem_(make_problem(shape, input, output)),
          counts_(count(operation, problem_)) {}

    std::vector<Choice> choices() const {
        std::vector<Choice> found;
        for (int v = 0; v < kernels_.variant_count; ++v) {
            const TileVariant& variant = kernels_.variants[v];
            // Dense entries share one list of offsets, so a block of them must hold one group of channels.
            if (variant.outputs > problem_.shape.outputs / problem_.shape.groups) continue;
            if (variant.dense && problem_.shape.groups > 1) continue;
            for (Choice choice : shapes(variant)) {
                add_blocks(choice, found);
                choice.in_place = true;
                if (can_lie(choice)) add_blocks(choice, found);
            }
        }
        std::sort(found.begin(), found.end(), [](const Choice& a, const Choice& b) { return a.cycles < b.cycles; });
        return found;
    }

    void build(Convolution& target, const Choice& choice, int parts) const {
        target.choice_ = choice;
        target.planar_ = planar();
        target.outputs_ = problem_.shape.outputs;
        target.clamp_ = operation_.clamp;
        target.bias_ = operation_.bias;
        target.single_ = single_for(*choice.variant);
        const Geometry geometry = layout(choice);
        target.packed_channel_ = geometry.channel_floats;
        target.row_step_ = geometry.row_step;
        target.input_channel_ = problem_.input.channel;
        target.output_channel_ = problem_.output.channel;
        target.in_place_ = choice.in_place;
        if (choice.in_place) make_tiles_in_place(target, choice);
        else if (planar()) make_planar_tiles(target, geometry, choice);
        else make_interleaved_tiles(target, geometry, choice);
        const std::int64_t most = std::max<std::int64_t>(1, problem_.shape.outputs / std::max(8, choice.variant->outputs));
        target.parts_ = static_cast<int>(std::clamp<std::int64_t>(parts, 1, problem_.shape.groups > 1 ? 1 : most));
        make_streams(target, geometry, choice);
    }

   private:
    bool planar() const { return problem_.output.images == 1; }
    int lanes() const { return kernels_.lanes; }
    double cycle() const { return lanes() >= 16 ? 1.0 : 0.5; }  // per vector multiply-add

    const TileVariant* single_for(const TileVariant& variant) const {
        for (int v = 0; v < kernels_.variant_count; ++v) {
            const TileVariant& each = kernels_.variants[v];
            if (each.outputs == 1 && each.rows == variant.rows && each.columns == variant.columns) return &each;
        }
        throw std::logic_error("no kernel for single outputs of this tile");
    }

    // The tiles that a variant can have here.
    std::vector<Choice> shapes(const TileVariant& variant) const {
        std::vector<Choice> found;
        const std::int64_t height = problem_.output.height, width = problem_.output.width;
        if (!planar()) {
            const int images = problem_.output.images / lanes();
            for (int vectors = 1; vectors <= images; vectors *= 2) {
                if (images % vectors != 0 || variant.columns % vectors != 0) continue;
                const int columns = variant.columns / vectors;
                if (variant.rows >= 2 * height || columns >= 2 * width) continue;
                found.push_back({&variant, variant.rows, columns, vectors, 0, 0});
            }
            return found;
        }
        if (variant.rows != 1) return found;
        const std::int64_t floats = variant.columns * lanes(), pitch = output_pitch();
        if (pitch <= lanes()) {
            const std::int64_t vectors = ceil_divide(height * pitch, lanes());
            if (variant.columns <= vectors) found.push_back({&variant, static_cast<int>(floats / pitch), static_cast<int>(pitch), 1, 0, 0});
            return found;
        }
        for (std::int64_t columns = lanes(); columns <= floats; columns += lanes()) {
            if (floats % columns != 0 || columns > pitch) continue;
            const std::int64_t rows = floats / columns;
            if (rows >= 2 * height) continue;
            found.push_back({&variant, static_cast<int>(rows), static_cast<int>(columns), 1, 0, 0});
        }
        return found;
    }

    // Whether tiles of a 1×1 convolution can be read from the planes as they are: contiguous, whole, on cache lines.
    bool can_lie(const Choice& choice) const {
        const ConvolutionShape& s = problem_.shape;
        const bool pointwise = s.kernel_y * s.kernel_x == 1 && s.stride_y == 1 && s.stride_x == 1 && s.top == 0 && s.left == 0 &&
                               problem_.input.height == 1 && problem_.output.height == 1 && problem_.input.width == problem_.output.width;
        if (!pointwise || choice.rows != 1 || problem_.input.channel % 16 != 0 || problem_.input.channel == 0) return false;
        if (planar()) return problem_.output.width % choice.columns == 0;
        return choice.image_vectors * lanes() == problem_.input.images && problem_.input.column == problem_.input.images && problem_.output.column == problem_.input.images &&
               problem_.output.width % choice.columns == 0;
    }

    Geometry in_place_layout(const Choice& choice) const {
        Geometry g;
        g.taps = {0}, g.used_taps = 1, g.classes = {{true}}, g.shifts = {0};
        g.channel_floats = problem_.input.channel;
        const std::int64_t vectors = choice.variant->columns;
        g.tiles = planar() ? problem_.output.width / choice.columns : problem_.output.width / choice.columns;
        g.pack_cycles = 1.5 * static_cast<double>(vectors) * cycle();  // the way from L2
        return g;
    }

    std::int64_t output_pitch() const { return problem_.output.height == 1 ? round_up(problem_.output.width, lanes()) : problem_.output.row; }

    void add_blocks(Choice choice, std::vector<Choice>& found) const {
        const Geometry geometry = layout(choice);
        const std::int64_t channels = problem_.shape.channels / problem_.shape.groups;
        const std::int64_t taps = std::max<std::int64_t>(1, geometry.used_taps);
        const std::int64_t most = std::min(kOffsetLimit / geometry.channel_floats, 65535 / taps);
        if (most < 1) return;
        std::int64_t last = 0;
        for (double bytes : {12e3, 16e3, 20e3, 24e3, 28e3, 40e3, 60e3, 90e3, 130e3, 200e3, 300e3, 520e3}) {
            std::int64_t block = static_cast<std::int64_t>(bytes / 4) / (choice.in_place ? choice.variant->columns * lanes() : geometry.channel_floats);
            block = std::clamp<std::int64_t>(block, 1, most);
            if (block >= channels) {
                block = problem_.shape.groups > 1 ? std::min(block / channels, problem_.shape.groups) * channels : channels;
            } else {
                block = ceil_divide(channels, ceil_divide(channels, block));  // equal blocks
            }
            if (block == last) continue;
            last = block;
            choice.block = block;
            choice.cycles = predict(choice, geometry);
            found.push_back(choice);
        }
    }

    double predict(const Choice& choice, const Geometry& geometry) const {
        const ConvolutionShape& s = problem_.shape;
        const TileVariant& variant = *choice.variant;
        const double t = variant.rows * variant.columns, fma = cycle();
        const double density = counts_.used == 0 ? 0 : static_cast<double>(counts_.nonzero) / static_cast<double>(counts_.used);
        const std::int64_t channels = s.channels / s.groups;
        const double blocks = static_cast<double>(ceil_divide(channels, choice.block));  // that an output takes part in
        const double floats = choice.in_place ? t * lanes() : static_cast<double>(geometry.channel_floats);
        const double far = distance(4.0 * static_cast<double>(choice.block) * floats);
        const double positions = static_cast<double>(channels * geometry.used_taps) * geometry.work;  // per output
        const double tall = variant.rows > 2 ? 1.04 : 1.0;
        const double single = std::max(1.7, (1.1 * t * far * fma + 0.15) * tall);
        double per_output, used = std::min(blocks, positions * density);
        if (variant.dense) {
            per_output = positions * std::max(1.03 * variant.outputs * t * fma, (t * far + 0.55 * variant.outputs) * fma) / variant.outputs + 0.1 * positions;
            used = blocks;
        } else if (variant.patterns) {
            const double alone = density * (1 - density), both = density * density / 2;
            per_output = positions * (alone * (single + 0.4) + both * (std::max(2.06 * t * fma, t * far * fma) + 0.6)) + 8 * blocks;
            used = blocks;
        } else {
            per_output = positions * density * single;
        }
        const double sums = 2.9 * t * fma * std::max(0.0, used - 1) + 3.2 * t * fma + 4 * used;
        const double tile = static_cast<double>(s.outputs) * (per_output + sums) +
                            geometry.pack_cycles * static_cast<double>(s.channels) + 60 * blocks;
        return tile * static_cast<double>(geometry.tiles);
    }

    // How much longer a multiply-add takes that reads from a packed block of so many bytes than one that reads from L1.
    static double distance(double bytes) {
        constexpr double table[][2] = {{28e3, 1.0}, {40e3, 1.03}, {64e3, 1.16}, {128e3, 1.4}, {256e3, 1.6}, {520e3, 1.8}};
        double below[2] = {0, 1.0};
        for (const auto& [size, factor] : table) {
            if (bytes <= size) return below[1] + (factor - below[1]) * (bytes - below[0]) / (size - below[0]);
            below[0] = size, below[1] = factor;
        }
        return below[1];
    }

    Geometry layout(const Choice& choice) const {
        if (choice.in_place) return in_place_layout(choice);
        return planar() ? planar_layout(choice) : interleaved_layout(choice);
    }

    Geometry interleaved_layout(const Choice& choice) const {
        Geometry g;
        const Axis &y = problem_.y, &x = problem_.x;
        for (std::int64_t c = 0; c < x.classes(); ++c) g.column_base.push_back(g.row_length), g.row_length += x.length(c, choice.columns);
        std::int64_t rows = 0;
        for (std::int64_t c = 0; c < y.classes(); ++c) g.row_base.push_back(rows), rows += y.length(c, choice.rows);
        const std::int64_t pixel = choice.image_vectors * lanes();
        g.channel_floats = std::max<std::int64_t>(1, rows * g.row_length) * pixel;
        g.row_step = g.row_length * pixel;
        for (std::size_t ky = 0; ky < y.used.size(); ++ky)
            for (std::size_t kx = 0; kx < x.used.size(); ++kx) {
                if (!y.used[ky] || !x.used[kx]) {
                    g.taps.push_back(-1);
                    continue;
                }
                const std::int64_t row = g.row_base[y.cls[ky]] + y.shift[ky] - y.low[y.cls[ky]];
                const std::int64_t column = g.column_base[x.cls[kx]] + x.shift[kx] - x.low[x.cls[kx]];
                g.taps.push_back((row * g.row_length + column) * pixel);
                ++g.used_taps;
            }
        g.tiles = ceil_divide(problem_.output.height, choice.rows) * ceil_divide(problem_.output.width, choice.columns) *
                  (problem_.output.images / pixel);
        find_classes(g, choice);
        const double slow = problem_.input.channel * problem_.input.channels > 200'000 ? 3.6 : 2.4;  // floats beyond L2
        g.pack_cycles = (static_cast<double>(g.channel_floats) / lanes() * slow * cycle() + 2.0 * static_cast<double>(rows)) * (0.5 + 0.5 * g.work);
        return g;
    }

    // Whether tap k sees anything but padding from one of the outputs [first, first + count).
    static bool sees(const Axis& axis, std::int64_t dilation, std::size_t k, std::int64_t first, std::int64_t count) {
        for (std::int64_t i = first; i < std::min(first + count, axis.out); ++i) {
            const std::int64_t at = i * axis.stride + static_cast<std::int64_t>(k) * dilation - axis.before;
            if (at >= 0 && at < axis.size) return true;
        }
        return false;
    }

    std::vector<bool> taps_of_tile(const Choice& choice, std::int64_t oy, std::int64_t ox) const {
        const Axis &y = problem_.y, &x = problem_.x;
        std::vector<bool> taps;
        for (std::size_t ky = 0; ky < y.used.size(); ++ky)
            for (std::size_t kx = 0; kx < x.used.size(); ++kx)
                taps.push_back(sees(y, problem_.shape.dilation_y, ky, oy, choice.rows) && sees(x, problem_.shape.dilation_x, kx, ox, choice.columns));
        return taps;
    }

    void find_classes(Geometry& g, const Choice& choice) const {
        constexpr std::size_t kMost = 9;
        std::map<std::vector<bool>, std::int64_t> tiles;
        for (std::int64_t oy = 0; oy < problem_.output.height; oy += choice.rows)
            for (std::int64_t ox = 0; ox < problem_.output.width; ox += choice.columns) ++tiles[taps_of_tile(choice, oy, ox)];
        if (tiles.size() > kMost || g.used_taps <= 1) {
            std::vector<bool> all;
            for (std::int64_t tap : g.taps) all.push_back(tap >= 0);
            g.classes.push_back(all);
            return;
        }
        double needed = 0, count = 0;
        for (const auto& [taps, times] : tiles) {
            g.classes.push_back(taps);
            needed += static_cast<double>(times * std::count(taps.begin(), taps.end(), true)), count += static_cast<double>(times);
        }
        g.work = needed / (count * static_cast<double>(g.used_taps));
    }

    Geometry planar_layout(const Choice& choice) const {
        Geometry g;
        const Axis &y = problem_.y, &x = problem_.x;
        const std::int64_t pitch = choice.columns, dilation = problem_.shape.dilation_x;
        std::vector<std::int64_t> columns;  // of the kernel
        for (std::size_t kx = 0; kx < x.used.size(); ++kx)
            if (x.used[kx]) columns.push_back(static_cast<std::int64_t>(kx));
        const std::int64_t widest = columns.empty() ? 0 : (columns.back() - columns.front()) * dilation;
        const bool together = widest <= 32;
        g.shifts = {0};
        if (together && !columns.empty()) {
            g.shifts.clear();
            for (std::int64_t kx : columns) g.shifts.push_back(static_cast<std::int32_t>((kx - columns.front()) * dilation));
        }
        while (g.piece_width > 1 && (g.piece_width - 1) * x.stride + g.shifts.back() > 63) g.piece_width /= 2;
        std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, std::size_t> known;
        std::vector<std::size_t> group_of(y.used.size() * x.used.size(), 0);
        for (std::size_t ky = 0; ky < y.used.size(); ++ky)
            for (std::size_t kx = 0; kx < x.used.size(); ++kx) {
                if (!y.used[ky] || !x.used[kx]) continue;
                const std::int64_t q = y.shift[ky], phase = q * pitch % lanes();
                const std::int64_t column = together ? columns.front() : static_cast<std::int64_t>(kx);
                const auto [at, fresh] = known.emplace(std::make_tuple(column, y.cls[ky], phase), g.groups.size());
                if (fresh) g.groups.push_back({column, y.cls[ky], q, q, 0});
                Geometry::Group& group = g.groups[at->second];
                group.low = std::min(group.low, q), group.high = std::max(group.high, q);
                group_of[ky * x.used.size() + kx] = at->second;
            }
        std::int64_t pieces = 0;
        for (const Geometry::Group& group : g.groups)
            g.copy_stride = std::max(g.copy_stride, round_up((group.high - group.low + choice.rows) * pitch, std::max(lanes(), 16)));
        for (Geometry::Group& group : g.groups) {
            group.base = g.channel_floats;
            g.channel_floats += g.copy_stride * static_cast<std::int64_t>(g.shifts.size());
            pieces += (group.high - group.low + choice.rows) * ceil_divide(pitch, g.piece_width);
        }
        g.channel_floats = std::max<std::int64_t>(g.channel_floats, 16);
        for (std::size_t ky = 0; ky < y.used.size(); ++ky)
            for (std::size_t kx = 0; kx < x.used.size(); ++kx) {
                if (!y.used[ky] || !x.used[kx]) {
                    g.taps.push_back(-1);
                    continue;
                }
                const Geometry::Group& group = g.groups[group_of[ky * x.used.size() + kx]];
                const std::int64_t copy = together ? std::find(columns.begin(), columns.end(), static_cast<std::int64_t>(kx)) - columns.begin() : 0;
                g.taps.push_back(group.base + copy * g.copy_stride + (y.shift[ky] - group.low) * pitch);
                ++g.used_taps;
            }
        g.tiles = ceil_divide(problem_.output.height, choice.rows) * ceil_divide(output_pitch(), pitch);
        std::vector<bool> all;
        for (std::int64_t tap : g.taps) all.push_back(tap >= 0);
        g.classes.push_back(all);
        const double copies = static_cast<double>(g.shifts.size());
        const double piece = lanes() >= 16 ? (problem_.shape.stride_x == 1 ? 3 + 2.2 * copies : 3 + 5 * copies) : 3 + (problem_.shape.stride_x == 1 ? 5 : 20) * copies;
        g.pack_cycles = static_cast<double>(pieces) * piece;
        return g;
    }

    void make_tiles_in_place(Convolution& target, const Choice& choice) const {
        const std::int64_t vectors = choice.variant->columns;
        for (std::int64_t t = 0; t < vectors; ++t) target.places_.push_back(static_cast<std::int32_t>(t * lanes()));
        const std::uint32_t valid = vectors == 32 ? ~0u : (1u << vectors) - 1;
        for (std::int64_t x = 0; x < problem_.output.width; x += choice.columns)
            target.tiles_.push_back({x * problem_.input.column, x * problem_.output.column, valid, 0, 0, 0});
    }

    void make_interleaved_tiles(Convolution& target, const Geometry& g, const Choice& choice) const {
        const Axis &y = problem_.y, &x = problem_.x;
        const Planes &in = problem_.input, &out = problem_.output;
        const std::int64_t pixel = choice.image_vectors * lanes();
        target.pixel_width_ = static_cast<int>(pixel);
        target.pixel_step_ = in.column * x.stride;
        for (int r = 0; r < choice.rows; ++r)
            for (int c = 0; c < choice.columns; ++c)
                for (int v = 0; v < choice.image_vectors; ++v)
                    target.places_.push_back(static_cast<std::int32_t>(r * out.row + c * out.column + v * lanes()));
        std::map<std::vector<std::int32_t>, std::pair<std::int32_t, std::int32_t>> known;
        // Down each strip of columns: the rows that two tiles share are then still in L2.
        for (std::int64_t ox = 0; ox < out.width; ox += choice.columns)
            for (std::int64_t oy = 0; oy < out.height; oy += choice.rows) {
                const std::int64_t base = (oy * y.stride - y.before) * in.row + (ox * x.stride - x.before) * in.column;
                const std::vector<bool> taps = taps_of_tile(choice, oy, ox);
                const auto of_class = std::find(g.classes.begin(), g.classes.end(), taps);
                const std::int32_t cls = of_class == g.classes.end() ? 0 : static_cast<std::int32_t>(of_class - g.classes.begin());
                const std::vector<bool> rows = needed_rows(g, choice, g.classes[cls]);
                std::vector<std::int32_t> flat;
                const auto add = [&](std::int64_t source, std::int64_t to, std::int64_t pixels) {
                    if (pixels <= 0) return;
                    for (std::int64_t value : {source, to * pixel, pixels}) flat.push_back(static_cast<std::int32_t>(value));
                };
                for (std::int64_t cy = 0; cy < y.classes(); ++cy)
                    for (std::int64_t j = 0; j < y.length(cy, choice.rows); ++j) {
                        if (!rows[g.row_base[cy] + j]) continue;
                        const std::int64_t iy = y.index(cy, oy, j);
                        for (std::int64_t cx = 0; cx < x.classes(); ++cx) {
                            const std::int64_t length = x.length(cx, choice.columns);
                            const std::int64_t to = (g.row_base[cy] + j) * g.row_length + g.column_base[cx];
                            std::int64_t low = 0, high = length;
                            while (low < length && x.index(cx, ox, low) < 0) ++low;
                            while (high > low && x.index(cx, ox, high - 1) >= in.width) --high;
                            if (iy < 0 || iy >= in.height) low = high = length;
                            add(kZeros, to, low);
                            if (high > low) add(iy * in.row + x.index(cx, ox, low) * in.column - base, to + low, high - low);
                            add(kZeros, to + high, length - high);
                        }
                    }
                const auto [at, fresh] = known.emplace(flat, std::make_pair(0, 0));
                if (fresh) {
                    at->second.first = static_cast<std::int32_t>(target.pixel_pieces_.size());
                    for (std::size_t i = 0; i < flat.size(); i += 3) target.pixel_pieces_.push_back({flat[i], flat[i + 1], flat[i + 2]});
                    at->second.second = static_cast<std::int32_t>(target.pixel_pieces_.size());
                }
                std::uint32_t valid = 0;
                int bit = 0;
                for (int r = 0; r < choice.rows; ++r)
                    for (int c = 0; c < choice.columns; ++c)
                        for (int v = 0; v < choice.image_vectors; ++v, ++bit)
                            if (oy + r < out.height && ox + c < out.width) valid |= 1u << bit;
                for (std::int64_t image = 0; image < out.images; image += pixel)
                    target.tiles_.push_back({base + image, oy * out.row + ox * out.column + image, valid, at->second.first, at->second.second, cls});
            }
    }

    // Rows of the packed tile that one of the taps reads.
    std::vector<bool> needed_rows(const Geometry& g, const Choice& choice, const std::vector<bool>& taps) const {
        const Axis &y = problem_.y, &x = problem_.x;
        std::int64_t rows = 0;
        for (std::int64_t c = 0; c < y.classes(); ++c) rows += y.length(c, choice.rows);
        std::vector<bool> needed(static_cast<std::size_t>(rows), false);
        for (std::size_t tap = 0; tap < taps.size(); ++tap) {
            const std::size_t ky = tap / x.used.size();
            if (!taps[tap] || g.taps[tap] < 0) continue;
            for (std::int64_t r = 0; r < choice.rows; ++r) needed[g.row_base[y.cls[ky]] + y.shift[ky] - y.low[y.cls[ky]] + r] = true;
        }
        return needed;
    }

    void make_planar_tiles(Convolution& target, const Geometry& g, const Choice& choice) const {
        const Axis& x = problem_.x;
        const Planes& out = problem_.output;
        const std::int64_t pitch = choice.columns, vectors = choice.variant->columns, whole = output_pitch();
        const bool narrow = pitch < lanes();
        target.row_stride_ = static_cast<int>(x.stride);
        target.shifts_ = g.shifts, target.copy_stride_ = g.copy_stride;
        for (std::int64_t t = 0; t < vectors; ++t) {
            const std::int64_t per_row = std::max<std::int64_t>(1, pitch / lanes());
            target.places_.push_back(static_cast<std::int32_t>(narrow ? t * lanes() : t / per_row * out.row + t % per_row * lanes()));
        }
        for (std::int64_t oy = 0; oy < out.height; oy += choice.rows)
            for (std::int64_t ox = 0; ox < whole; ox += pitch) {
                Tile tile{0, oy * out.row + ox, 0, static_cast<std::int32_t>(target.row_pieces_.size()), 0, 0};
                for (const Geometry::Group& group : g.groups)
                    for (std::int64_t j = 0; j < group.high - group.low + choice.rows; ++j)
                        for (std::int64_t chunk = 0; chunk < pitch; chunk += g.piece_width)
                            target.row_pieces_.push_back(row_piece(g, group, oy, ox, j, chunk, pitch));
                tile.piece_end = static_cast<std::int32_t>(target.row_pieces_.size());
                for (std::int64_t t = 0; t < vectors; ++t) {
                    const std::int64_t row = t * lanes() / pitch, column = t * lanes() % pitch;
                    if (oy + row < out.height && ox + column < whole) tile.valid |= 1u << t;
                }
                target.tiles_.push_back(tile);
            }
    }

    RowPiece row_piece(const Geometry& g, const Geometry::Group& group, std::int64_t oy, std::int64_t ox, std::int64_t j,
                       std::int64_t chunk, std::int64_t pitch) const {
        const Axis &y = problem_.y, &x = problem_.x;
        const Planes &in = problem_.input, &out = problem_.output;
        const std::int64_t width = std::min<std::int64_t>(g.piece_width, pitch - chunk);
        const std::int64_t iy = (oy + group.low + j) * y.stride + y.residue[group.cls] - y.before;
        const std::int64_t first = (ox + chunk) * x.stride + group.kx * problem_.shape.dilation_x - x.before;
        std::uint64_t mask = 0;
        for (std::int64_t i = 0; i < width; ++i)
            for (std::int32_t shift : g.shifts) {
                const std::int64_t ix = first + i * x.stride + shift;
                const bool inside = iy >= 0 && iy < in.height && ox + chunk + i < out.width && ix >= 0 && ix < in.width;
                if (inside) mask |= std::uint64_t{1} << (i * x.stride + shift);
            }
        const std::int64_t source = mask == 0 ? 0 : iy * in.row + first;
        return {static_cast<std::int32_t>(source), static_cast<std::int32_t>(group.base + j * pitch + chunk), mask, static_cast<std::int32_t>(width)};
    }

    struct Taken {
        std::uint16_t offset;
        float weight;
    };

    // The non-zeros of one output in input channels [begin, end) of the network, relative to the block's first channel.
    std::vector<Taken> take(const Geometry& g, const std::vector<bool>& taps_used, std::int64_t output, std::int64_t begin, std::int64_t end, std::int64_t origin, bool zeros) const {
        const ConvolutionShape& s = problem_.shape;
        const std::int64_t per_group = s.channels / s.groups, group = output / (s.outputs / s.groups);
        const std::int64_t taps = s.kernel_y * s.kernel_x;
        const float scale = operation_.scale.empty() ? 1.0f : operation_.scale[output];
        std::vector<Taken> taken;
        for (std::int64_t c = std::max(begin, group * per_group); c < std::min(end, (group + 1) * per_group); ++c) {
            const float* weights = operation_.weight.data + (output * per_group + c - group * per_group) * taps;
            for (std::int64_t tap = 0; tap < taps; ++tap) {
                if (g.taps[tap] < 0 || !taps_used[tap] || (weights[tap] == 0.0f && !zeros)) continue;
                const std::int64_t offset = (c - origin) * g.channel_floats + g.taps[tap];
                taken.push_back({static_cast<std::uint16_t>(offset / 2), weights[tap] * scale});
            }
        }
        return taken;
    }

    struct Group {
        Entry entry{};
        std::vector<float> weights;
        std::vector<std::uint16_t> offsets;
        bool keep = true;
    };

    Group single_group(const Geometry& g, const std::vector<bool>& used, std::int64_t output, std::int64_t begin, std::int64_t end) const {
        Group group;
        group.entry.channel = static_cast<std::uint32_t>(output);
        for (const Taken& each : take(g, used, output, begin, end, begin, false)) group.weights.push_back(each.weight), group.offsets.push_back(each.offset);
        group.entry.counts[0] = static_cast<std::uint16_t>(group.weights.size());
        return group;
    }

    Group paired_group(const Geometry& g, const std::vector<bool>& used, std::int64_t output, std::int64_t begin, std::int64_t end) const {
        Group group;
        group.entry.channel = static_cast<std::uint32_t>(output);
        const auto one = take(g, used, output, begin, end, begin, true), two = take(g, used, output + 1, begin, end, begin, true);
        for (int pattern = 0; pattern < 3; ++pattern)
            for (std::size_t i = 0; i < one.size(); ++i) {
                const bool first = one[i].weight != 0.0f, second = two[i].weight != 0.0f;
                if (first != (pattern != 1) || second != (pattern != 0)) continue;
                ++group.entry.counts[pattern];
                group.offsets.push_back(one[i].offset);
                if (first) group.weights.push_back(one[i].weight);
                if (second) group.weights.push_back(two[i].weight);
            }
        return group;
    }

    Group dense_group(const Geometry& g, const std::vector<bool>& used, std::int64_t output, std::int64_t begin, std::int64_t end, int outputs) const {
        Group group;
        group.entry.channel = static_cast<std::uint32_t>(output);
        std::vector<std::vector<Taken>> rows;
        for (int m = 0; m < outputs; ++m) rows.push_back(take(g, used, output + m, begin, end, begin, true));
        for (std::size_t i = 0; i < rows[0].size(); ++i) {
            for (int m = 0; m < outputs; ++m) group.weights.push_back(rows[m][i].weight);
            group.offsets.push_back(rows[0][i].offset);
        }
        group.entry.counts[0] = static_cast<std::uint16_t>(rows[0].size());
        return group;
    }

    Group make_group(const Geometry& g, const std::vector<bool>& used, const TileVariant& variant, std::int64_t output, std::int64_t begin, std::int64_t end) const {
        if (variant.dense) return dense_group(g, used, output, begin, end, variant.outputs);
        return variant.patterns ? paired_group(g, used, output, begin, end) : single_group(g, used, output, begin, end);
    }

    // Groups of one block, those with the same flags and counts together so that loop exits predict.
    static void append(Convolution& target, std::vector<Group>& groups, bool dense) {
        std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
            return std::tie(a.entry.flags, a.entry.counts[0], a.entry.counts[1], a.entry.counts[2]) <
                   std::tie(b.entry.flags, b.entry.counts[0], b.entry.counts[1], b.entry.counts[2]);
        });
        bool offsets_written = false;
        for (const Group& group : groups) {
            target.entries_.push_back(group.entry);
            target.weights_.insert(target.weights_.end(), group.weights.begin(), group.weights.end());
            if (dense && offsets_written) continue;
            target.offsets_.insert(target.offsets_.end(), group.offsets.begin(), group.offsets.end());
            offsets_written = true;
        }
    }

    void make_streams(Convolution& target, const Geometry& g, const Choice& choice) const {
        const ConvolutionShape& s = problem_.shape;
        const std::int64_t per_group = s.channels / s.groups, outputs_per_group = s.outputs / s.groups;
        const TileVariant& variant = *choice.variant;
        target.nonzeros_ = counts_.nonzero;
        std::int64_t most = 0;
        for (const std::vector<bool>& used : g.classes)
        for (int part = 0; part < target.parts_; ++part) {
            const std::int64_t units = s.outputs / variant.outputs;
            const std::int64_t out_begin = units * part / target.parts_ * variant.outputs;
            const std::int64_t out_end = part + 1 == target.parts_ ? s.outputs : units * (part + 1) / target.parts_ * variant.outputs;
            std::vector<Pending> blocks;
            if (choice.block >= per_group) {  // whole groups at a time
                const std::int64_t groups = per_group == 0 ? s.groups : std::max<std::int64_t>(1, choice.block / per_group);
                for (std::int64_t first = 0; first < s.groups; first += groups) {
                    const std::int64_t end = std::min(s.groups, first + groups);
                    blocks.push_back(pending(g, used, variant, *target.single_, first * per_group, end * per_group,
                                             std::max(out_begin, first * outputs_per_group),
                                             std::min(out_end, end * outputs_per_group)));
                }
            } else {
                for (std::int64_t group = 0; group < s.groups; ++group)
                    for (std::int64_t c = 0; c < per_group; c += choice.block)
                        blocks.push_back(pending(g, used, variant, *target.single_, group * per_group + c,
                                                 group * per_group + std::min(per_group, c + choice.block),
                                                 std::max(out_begin, group * outputs_per_group),
                                                 std::min(out_end, (group + 1) * outputs_per_group)));
            }
            settle(blocks, &Pending::shared), settle(blocks, &Pending::single);
            target.blocks_.emplace_back();
            for (Pending& each : blocks) {
                if (each.shared.empty() && each.single.empty()) continue;
                Block block{each.begin, each.end - each.begin, target.entries_.size(), each.shared.size(), each.single.size(),
                            target.weights_.size(), target.offsets_.size(), 0, 0};
                append(target, each.shared, variant.dense);
                block.single_weight = target.weights_.size(), block.single_offset = target.offsets_.size();
                append(target, each.single, false);
                most = std::max(most, block.channels);
                target.blocks_.back().push_back(block);
            }
        }
        const std::int64_t vectors = variant.rows * variant.columns;
        target.packed_floats_ = static_cast<std::size_t>(round_up(most * g.channel_floats, 16) + 16);
        target.scratch_ = target.packed_floats_ + static_cast<std::size_t>(s.outputs * vectors * lanes());
    }

    // What the input channels [begin, end) add to the outputs [out_begin, out_end).
    struct Pending {
        std::int64_t begin, end;
        std::vector<Group> shared, single;
    };

    Pending pending(const Geometry& g, const std::vector<bool>& used, const TileVariant& variant, const TileVariant& single, std::int64_t begin,
                    std::int64_t end, std::int64_t out_begin, std::int64_t out_end) const {
        const std::int64_t outputs_per_group = problem_.shape.outputs / problem_.shape.groups;
        Pending result{begin, end, {}, {}};
        for (std::int64_t output = out_begin; output < out_end;) {
            const std::int64_t left = std::min(out_end, (output / outputs_per_group + 1) * outputs_per_group) - output;
            const bool whole = left >= variant.outputs;
            Group group = make_group(g, used, whole ? variant : single, output, begin, end);
            (whole ? result.shared : result.single).push_back(std::move(group));
            output += whole ? variant.outputs : 1;
        }
        return result;
    }

    // Groups that add nothing are dropped, but one of every output stays: it writes the bias. The first of what stays
    // starts an output's sum, the last one finishes it.
    static void settle(std::vector<Pending>& blocks, std::vector<Group> Pending::* list) {
        std::map<std::uint32_t, std::vector<Group*>> of_output;
        for (Pending& block : blocks)
            for (Group& group : block.*list) of_output[group.entry.channel].push_back(&group);
        for (auto& [channel, groups] : of_output) {
            std::vector<Group*> kept;
            for (Group* group : groups)
                if (!group->offsets.empty()) kept.push_back(group);
            if (kept.empty()) kept.push_back(groups.back());
            kept.front()->entry.flags |= kFirst, kept.back()->entry.flags |= kLast;
            for (Group* group : groups) group->keep = std::find(kept.begin(), kept.end(), group) != kept.end();
        }
        for (Pending& block : blocks) std::erase_if(block.*list, [](const Group& group) { return !group.keep; });
    }

    const Operation& operation_;
    const Kernels& kernels_;
    Problem problem_;
    Counts counts_;
};

std::vector<Choice> Convolution::choices(const Operation& operation, const ConvolutionShape& shape, const Planes& input,
                                         const Planes& output, const Kernels& kernels) {
    return Builder(operation, shape, input, output, kernels).choices();
}

Convolution::Convolution(const Operation& operation, const ConvolutionShape& shape, const Planes& input,
                         const Planes& output, const Kernels& kernels, int parts)
    : kernels_(kernels) {
    const Builder builder(operation, shape, input, output, kernels);
    const auto found = builder.choices();
    if (found.empty()) throw std::length_error("a convolution too large for the runtime");
    builder.build(*this, found.front(), parts);
}

Convolution::Convolution(const Operation& operation, const ConvolutionShape& shape, const Planes& input,
                         const Planes& output, const Kernels& kernels, int parts, const Choice& choice)
    : kernels_(kernels) {
    Builder(operation, shape, input, output, kernels).build(*this, choice, parts);
}

void Convolution::run(std::int64_t begin, std::int64_t end, const float* input, const float* residual, float* output,
                      float* scratch) const {
    TileRun tile_run{};
    tile_run.inputs = scratch;
    tile_run.row_step = row_step_;
    tile_run.sums = scratch + packed_floats_;
    tile_run.bias = bias_.data();
    tile_run.channel_stride = output_channel_;
    tile_run.places = places_.data();
    tile_run.low = clamp_.low, tile_run.high = clamp_.high;
    for (std::int64_t item = begin; item < end; ++item) {
        const Tile& tile = tiles_[item / parts_];
        tile_run.output = output + tile.output;
        tile_run.residual = residual == nullptr ? nullptr : residual + tile.output;
        tile_run.valid = tile.valid;
        for (const Block& block : blocks_[tile.cls * parts_ + item % parts_]) {
            const float* source = input + tile.input + block.channel * input_channel_;
            const int channels = static_cast<int>(block.channels), pieces = tile.piece_end - tile.piece_begin;
            if (in_place_) tile_run.inputs = source;
            else if (planar_)
                kernels_.pack_rows({source, input_channel_, packed_channel_, copy_stride_, scratch, row_pieces_.data() + tile.piece_begin, shifts_.data(), pieces, channels, static_cast<int>(shifts_.size()), row_stride_});
            else
                kernels_.pack_pixels({source, input_channel_, packed_channel_, pixel_step_, scratch, pixel_pieces_.data() + tile.piece_begin, pieces, channels, pixel_width_});
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
    return weights_.size() * sizeof(float) + offsets_.size() * sizeof(std::uint16_t) + entries_.size() * sizeof(Entry);
}

std::string Convolution::describe() const {
    const TileVariant& variant = *choice_.variant;
    std::string text = variant.dense ? "dense" : variant.patterns ? "paired" : "sparse";
    if (variant.dense) text += " ×" + std::to_string(variant.outputs);
    text += ", tile " + std::to_string(choice_.rows) + "×" + std::to_string(choice_.columns);
    if (!planar_) text += "×" + std::to_string(choice_.image_vectors * kernels_.lanes) + " images";
    if (choice_.in_place) text += ", in place";
    return text + ", " + std::to_string(choice_.block) + " channels a block";
}

}  // namespace secateur
