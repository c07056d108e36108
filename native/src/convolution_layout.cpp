#include <algorithm>
#include <map>
#include <tuple>

#include "convolution_builder.hpp"

namespace secateur {

Convolution::Geometry Convolution::Builder::in_place_layout(const Choice& choice) const {
    Geometry g;
    const ConvolutionShape& s = problem_.shape;
    const Planes &in = problem_.input, &out = problem_.output;
    for (std::int64_t ky = 0; ky < s.kernel_y; ++ky)
        for (std::int64_t kx = 0; kx < s.kernel_x; ++kx)
            g.taps.push_back(ky * s.dilation_y * in.row + kx * s.dilation_x * in.column);
    g.used_taps = s.kernel_y * s.kernel_x, g.classes = {std::vector<bool>(g.taps.size(), true)}, g.shifts = {0};
    g.channel_words = in.channel, g.row_step = in.row * s.stride_y;
    g.tiles = out.width / choice.columns * (planar() ? 1 : out.height / choice.rows);
    const std::int64_t high = (choice.rows - 1) * s.stride_y + (s.kernel_y - 1) * s.dilation_y + 1;
    const std::int64_t wide = choice.columns + (s.kernel_x - 1) * s.dilation_x;
    g.words = static_cast<double>(planar() ? choice.columns : high * wide * in.images);
    g.pack_cycles = 1.5 * g.words / lanes() * cycle();  // the way from L2
    return g;
}

Convolution::Geometry Convolution::Builder::interleaved_layout(const Choice& choice) const {
    Geometry g;
    const Axis &y = problem_.y, &x = problem_.x;
    for (std::int64_t c = 0; c < x.classes(); ++c)
        g.column_base.push_back(g.row_length), g.row_length += x.length(c, choice.columns);
    std::int64_t rows = 0;
    for (std::int64_t c = 0; c < y.classes(); ++c) g.row_base.push_back(rows), rows += y.length(c, choice.rows);
    const std::int64_t pixel = choice.image_vectors * lanes();
    g.channel_words = std::max<std::int64_t>(1, rows * g.row_length) * pixel;
    g.row_step = g.row_length * pixel;
    g.words = static_cast<double>(g.channel_words);
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
    const double slow =
        costs_.pixels * (problem_.input.channel * problem_.input.channels > 200'000 ? 1.5 : 1.0);  // words beyond L2
    g.pack_cycles =
        (static_cast<double>(g.channel_words) / lanes() * slow * cycle() + 2.0 * static_cast<double>(rows)) *
        (0.5 + 0.5 * g.work);
    return g;
}

// Whether tap k sees anything but padding from one of the outputs [first, first + count).
bool Convolution::Builder::sees(const Axis& axis, std::int64_t dilation, std::size_t k, std::int64_t first,
                                std::int64_t count) {
    for (std::int64_t i = first; i < std::min(first + count, axis.out); ++i) {
        const std::int64_t at = i * axis.stride + static_cast<std::int64_t>(k) * dilation - axis.before;
        if (at >= 0 && at < axis.size) return true;
    }
    return false;
}

// For every tile along an axis, which of the taps see anything but padding; tiles that see alike have one number.
Convolution::Builder::Sights Convolution::Builder::sights(const Axis& axis, std::int64_t dilation, std::int64_t step) {
    Sights found;
    std::map<std::vector<bool>, std::int64_t> known;
    for (std::int64_t first = 0; first < axis.out; first += step) {
        std::vector<bool> taps;
        for (std::size_t k = 0; k < axis.used.size(); ++k) taps.push_back(sees(axis, dilation, k, first, step));
        const auto [at, fresh] = known.emplace(std::move(taps), static_cast<std::int64_t>(found.taps.size()));
        if (fresh) found.taps.push_back(at->first), found.tiles.push_back(0);
        ++found.tiles[static_cast<std::size_t>(at->second)];
        found.of_tile.push_back(at->second);
    }
    return found;
}

std::vector<bool> Convolution::Builder::taps_of(const std::vector<bool>& rows, const std::vector<bool>& columns) {
    std::vector<bool> taps;
    for (const bool row : rows)
        for (const bool column : columns) taps.push_back(row && column);
    return taps;
}

void Convolution::Builder::find_classes(Geometry& g, const Choice& choice) const {
    constexpr std::size_t kMost = 9, kManySights = 64;  // whose products are more than so many
    const Sights rows = sights(problem_.y, problem_.shape.dilation_y, choice.rows);
    const Sights columns = sights(problem_.x, problem_.shape.dilation_x, choice.columns);
    const bool many = rows.taps.size() * columns.taps.size() > kManySights;
    std::map<std::vector<bool>, std::int64_t> tiles;
    for (std::size_t y = 0; !many && y < rows.taps.size(); ++y)
        for (std::size_t x = 0; x < columns.taps.size(); ++x)
            tiles[taps_of(rows.taps[y], columns.taps[x])] += rows.tiles[y] * columns.tiles[x];
    if (many || tiles.size() > kMost || g.used_taps <= 1) {
        std::vector<bool> all;
        for (std::int64_t tap : g.taps) all.push_back(tap >= 0);
        g.classes.push_back(all);
        return;
    }
    double needed = 0, count = 0;
    for (const auto& [taps, times] : tiles) {
        g.classes.push_back(taps);
        needed += static_cast<double>(times * std::count(taps.begin(), taps.end(), true)),
            count += static_cast<double>(times);
    }
    g.work = needed / (count * static_cast<double>(g.used_taps));
}

Convolution::Geometry Convolution::Builder::planar_layout(const Choice& choice) const {
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
        for (std::int64_t kx : columns)
            g.shifts.push_back(static_cast<std::int32_t>((kx - columns.front()) * dilation));
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
        g.copy_stride =
            std::max(g.copy_stride, round_up((group.high - group.low + choice.rows) * pitch, std::max(lanes(), 16)));
    for (Geometry::Group& group : g.groups) {
        group.base = g.channel_words;
        g.channel_words += g.copy_stride * static_cast<std::int64_t>(g.shifts.size());
        pieces += (group.high - group.low + choice.rows) * ceil_divide(pitch, g.piece_width);
    }
    g.channel_words = std::max<std::int64_t>(g.channel_words, 16);
    g.words = static_cast<double>(g.channel_words);
    for (std::size_t ky = 0; ky < y.used.size(); ++ky)
        for (std::size_t kx = 0; kx < x.used.size(); ++kx) {
            if (!y.used[ky] || !x.used[kx]) {
                g.taps.push_back(-1);
                continue;
            }
            const Geometry::Group& group = g.groups[group_of[ky * x.used.size() + kx]];
            const std::int64_t copy =
                together ? std::find(columns.begin(), columns.end(), static_cast<std::int64_t>(kx)) - columns.begin()
                         : 0;
            g.taps.push_back(group.base + copy * g.copy_stride + (y.shift[ky] - group.low) * pitch);
            ++g.used_taps;
        }
    g.tiles = ceil_divide(problem_.output.height, choice.rows) * ceil_divide(output_pitch(), pitch);
    std::vector<bool> all;
    for (std::int64_t tap : g.taps) all.push_back(tap >= 0);
    g.classes.push_back(all);
    const double copies = static_cast<double>(g.shifts.size());
    g.pack_cycles =
        static_cast<double>(pieces) * row_cycles(kernels_.cycles, problem_.shape.stride_x, copies) * costs_.rows;
    g.pieces = pieces;
    return g;
}

}  // namespace secateur
