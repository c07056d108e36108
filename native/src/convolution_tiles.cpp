#include <algorithm>
#include <map>

#include "convolution_builder.hpp"

namespace secateur {

void Convolution::Builder::make_tiles_in_place(Convolution& target, const Choice& choice) const {
    const Planes &in = problem_.input, &out = problem_.output;
    make_places(target, choice);
    const std::int64_t vectors = choice.variant->rows * choice.variant->columns, rows = planar() ? 1 : choice.rows;
    const std::uint32_t valid = vectors == 32 ? ~0u : (1u << vectors) - 1;
    for (std::int64_t y = 0; y < out.height; y += rows)
        for (std::int64_t x = 0; x < out.width; x += choice.columns)
            target.tiles_.push_back(
                {y * problem_.y.stride * in.row + x * in.column, y * out.row + x * out.column, valid, 0, 0, 0});
}

// Where every vector of a tile goes.
void Convolution::Builder::make_places(Convolution& target, const Choice& choice) const {
    const Planes& out = problem_.output;
    const auto add = [&](std::int64_t place) { target.places_.push_back(static_cast<std::int32_t>(place)); };
    if (planar()) {
        const std::int64_t per_row = std::max<std::int64_t>(1, choice.columns / lanes());
        for (std::int64_t t = 0; t < choice.variant->columns; ++t)
            add(choice.columns < lanes() ? t * lanes() : t / per_row * out.row + t % per_row * lanes());
        return;
    }
    for (int r = 0; r < choice.rows; ++r)
        for (int c = 0; c < choice.columns; ++c)
            for (int v = 0; v < choice.image_vectors; ++v) add(r * out.row + c * out.column + v * lanes());
}

void Convolution::Builder::make_moves(Convolution& target, const Border& border) {
    target.lanes_ = border.lanes;
    std::multimap<std::int64_t, BorderMove> from;
    for (const BorderMove& move : border.moves) from.emplace(move.source, move);
    if (from.empty()) return;
    for (Tile& tile : target.tiles_) {
        tile.move_begin = static_cast<std::int32_t>(target.moves_.size());
        for (std::size_t t = 0; t < target.places_.size(); ++t) {
            if ((tile.valid >> t & 1) == 0) continue;
            const auto [first, last] = from.equal_range(tile.output + target.places_[t]);
            for (auto found = first; found != last; ++found)
                target.moves_.push_back({target.places_[t],
                                         static_cast<std::int32_t>(found->second.target - tile.output),
                                         found->second.pattern});
        }
        std::stable_sort(target.moves_.begin() + tile.move_begin, target.moves_.end(),
                         [](const BorderMove& a, const BorderMove& b) { return a.pattern < b.pattern; });
        tile.move_end = static_cast<std::int32_t>(target.moves_.size());
    }
}

void Convolution::Builder::make_interleaved_tiles(Convolution& target, const Geometry& g, const Choice& choice) const {
    const Axis &y = problem_.y, &x = problem_.x;
    const Planes &in = problem_.input, &out = problem_.output;
    const std::int64_t pixel = choice.image_vectors * lanes();
    target.pixel_width_ = static_cast<int>(pixel);
    target.pixel_step_ = in.column * x.stride;
    make_places(target, choice);
    std::map<std::vector<std::int32_t>, std::pair<std::int32_t, std::int32_t>> known;
    const Sights row_sights = sights(y, problem_.shape.dilation_y, choice.rows),
                 column_sights = sights(x, problem_.shape.dilation_x, choice.columns);
    std::map<std::pair<std::int64_t, std::int64_t>, std::pair<std::int32_t, std::vector<bool>>>
        classes;  // with the rows that they need
    // Down each strip of columns: the rows that two tiles share are then still in L2.
    for (std::int64_t ox = 0; ox < out.width; ox += choice.columns)
        for (std::int64_t oy = 0; oy < out.height; oy += choice.rows) {
            const std::int64_t base = (oy * y.stride - y.before) * in.row + (ox * x.stride - x.before) * in.column;
            const std::int64_t row_sight = row_sights.of_tile[oy / choice.rows],
                               column_sight = column_sights.of_tile[ox / choice.columns];
            const auto [found, unknown] = classes.try_emplace({row_sight, column_sight});
            auto& [cls, rows] = found->second;
            if (unknown) {
                const auto of_class =
                    g.classes.size() == 1
                        ? g.classes.end()
                        : std::find(g.classes.begin(), g.classes.end(),
                                    taps_of(row_sights.taps[row_sight], column_sights.taps[column_sight]));
                cls = of_class == g.classes.end() ? 0 : static_cast<std::int32_t>(of_class - g.classes.begin());
                rows = needed_rows(g, choice, g.classes[cls]);
            }
            std::vector<std::int32_t> flat;
            const auto add = [&](std::int64_t source, std::int64_t to, std::int64_t pixels) {
                if (pixels <= 0) return;
                for (std::int64_t value : {source, to * pixel, pixels})
                    flat.push_back(static_cast<std::int32_t>(value));
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
                        if (high > low)
                            add(iy * in.row + x.index(cx, ox, low) * in.column - base, to + low, high - low);
                        add(kZeros, to + high, length - high);
                    }
                }
            const auto [at, fresh] = known.emplace(flat, std::make_pair(0, 0));
            if (fresh) {
                at->second.first = static_cast<std::int32_t>(target.pixel_pieces_.size());
                for (std::size_t i = 0; i < flat.size(); i += 3)
                    target.pixel_pieces_.push_back({flat[i], flat[i + 1], flat[i + 2]});
                at->second.second = static_cast<std::int32_t>(target.pixel_pieces_.size());
            }
            std::uint32_t valid = 0;
            int bit = 0;
            for (int r = 0; r < choice.rows; ++r)
                for (int c = 0; c < choice.columns; ++c)
                    for (int v = 0; v < choice.image_vectors; ++v, ++bit)
                        if (oy + r < out.height && ox + c < out.width) valid |= 1u << bit;
            for (std::int64_t image = 0; image < out.images; image += pixel)
                target.tiles_.push_back({base + image, oy * out.row + ox * out.column + image, valid, at->second.first,
                                         at->second.second, cls});
        }
}

// Rows of the packed tile that one of the taps reads.
std::vector<bool> Convolution::Builder::needed_rows(const Geometry& g, const Choice& choice,
                                                    const std::vector<bool>& taps) const {
    const Axis &y = problem_.y, &x = problem_.x;
    std::int64_t rows = 0;
    for (std::int64_t c = 0; c < y.classes(); ++c) rows += y.length(c, choice.rows);
    std::vector<bool> needed(static_cast<std::size_t>(rows), false);
    for (std::size_t tap = 0; tap < taps.size(); ++tap) {
        const std::size_t ky = tap / x.used.size();
        if (!taps[tap] || g.taps[tap] < 0) continue;
        for (std::int64_t r = 0; r < choice.rows; ++r)
            needed[g.row_base[y.cls[ky]] + y.shift[ky] - y.low[y.cls[ky]] + r] = true;
    }
    return needed;
}

void Convolution::Builder::make_planar_tiles(Convolution& target, const Geometry& g, const Choice& choice) const {
    const Axis& x = problem_.x;
    const Planes& out = problem_.output;
    const std::int64_t pitch = choice.columns, vectors = choice.variant->columns, whole = output_pitch();
    target.row_stride_ = static_cast<int>(x.stride);
    target.shifts_ = g.shifts, target.copy_stride_ = g.copy_stride;
    make_places(target, choice);
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

RowPiece Convolution::Builder::row_piece(const Geometry& g, const Geometry::Group& group, std::int64_t oy,
                                         std::int64_t ox, std::int64_t j, std::int64_t chunk,
                                         std::int64_t pitch) const {
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
    return {static_cast<std::int32_t>(source), static_cast<std::int32_t>(group.base + j * pitch + chunk), mask,
            static_cast<std::int32_t>(width)};
}

}  // namespace secateur
