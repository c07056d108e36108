// Planes read between their pixels.
#include <algorithm>
#include <cmath>
#include <utility>

#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "operations.hpp"
#include "prediction.hpp"
#include "storage.hpp"

namespace secateur {
namespace {

std::optional<Kind> read_resize(const Node& node) {
    if (node.op != "resize") return {};
    kind::Resize resize;
    for (int axis = 0; node.weights.contains("sources " + std::to_string(axis)); ++axis)
        resize.axes.push_back(
            {node.weights.at("sources " + std::to_string(axis)), node.weights.at("shares " + std::to_string(axis))});
    return resize;
}

// The parts of a folded plane are planes of their own, whose pixels are as many floats as there are parts.
Storage plane_of_part(const Storage& storage) {
    Storage part = storage;
    if (storage.folded) part.dims = {storage.dims[0], storage.part_height(), storage.part_width()};
    return part;
}

// A row of the output is a sum of rows of the input, whose pixels are then resampled along it.
class Resizing {
   public:
    // Where values are folded, parts have to be made of the same parts.
    Resizing(const kind::Resize& resize, const Storage& source, const Storage& target, int images)
        : images_(source.folded ? static_cast<int>(source.strides[2]) : images), axes_(resize.axes) {
        const Storage from = plane_of_part(source), to = plane_of_part(target);
        const std::size_t kept = from.dims.size() - axes_.size();
        const auto head = [&](const std::vector<std::int64_t>& all) {
            return Shape(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept));
        };
        reads_ = offsets_of(head(from.dims), head(from.strides));
        writes_ = offsets_of(head(from.dims), head(to.strides));
        for (std::int64_t& read : reads_) read += from.origin;
        for (std::int64_t& write : writes_) write += to.origin;
        width_ = from.dims.back(), new_width_ = to.dims.back();
        std::int64_t count = 1;
        for (std::size_t axis = kept; axis + 1 < to.dims.size(); ++axis) count *= to.dims[axis];
        for (std::int64_t i = 0; i < count; ++i) rows_.push_back(find_row(i, from, to, kept));
        for (std::size_t i = 1; i < rows_.size(); ++i)
            rows_[i].again = rows_[i].offsets == rows_[i - 1].offsets && rows_[i].shares == rows_[i - 1].shares;
    }

    std::int64_t items() const { return static_cast<std::int64_t>(reads_.size()); }
    std::size_t scratch_words() const { return static_cast<std::size_t>(width_ * images_) + kOverread; }

    // Planes [begin, end).
    void run(const Kernels& kernels, std::int64_t begin, std::int64_t end, const float* from, float* to,
             float* scratch) const {
        const kind::Resize::Axis& last = axes_.back();
        for (std::int64_t plane = begin; plane < end; ++plane) {
            const float* made = nullptr;  // the row before
            for (const Row& row : rows_) {
                float* target = to + writes_[plane] + row.target;
                if (row.again) std::copy_n(made, new_width_ * images_, target);
                else
                    kernels.resample({blended(kernels, row, from + reads_[plane], scratch), target,
                                      last.sources.integers, last.shares.data, static_cast<int>(last.sources.shape[0]),
                                      images_, new_width_});
                made = target;
            }
        }
    }

   private:
    struct Row {
        std::vector<std::int64_t> offsets{0};  // where rows of the input begin
        std::vector<float> shares{1.0f};       // how much they count
        std::int64_t target = 0;
        bool again = false;  // the same as the row before
    };

    // Row i of a plane. Terms that count nothing are left out.
    Row find_row(std::int64_t i, const Storage& from, const Storage& to, std::size_t kept) const {
        Row row;
        for (std::size_t axis = to.dims.size() - 1; axis-- > kept;) {
            const auto& [sources, shares] = axes_[axis - kept];
            const std::int64_t taps = sources.shape[0], size = sources.shape[1], at = i % to.dims[axis];
            i /= to.dims[axis];
            row.target += at * to.strides[axis];
            const Row before = row;
            row.offsets.clear(), row.shares.clear();
            for (std::size_t term = 0; term < before.offsets.size(); ++term)
                for (std::int64_t tap = 0; tap < taps; ++tap) {
                    const float share = before.shares[term] * shares.data[tap * size + at];
                    if (share == 0.0f) continue;
                    row.offsets.push_back(before.offsets[term] +
                                          sources.integers[tap * size + at] * from.strides[axis]);
                    row.shares.push_back(share);
                }
        }
        return row;
    }

    const float* blended(const Kernels& kernels, const Row& row, const float* plane, float* scratch) const {
        if (row.shares.size() == 1 && row.shares[0] == 1.0f) return plane + row.offsets[0];
        constexpr std::size_t kMost = 16;  // rows: four of each of two axes
        const float* rows[kMost];
        for (std::size_t k = 0; k < row.offsets.size(); ++k) rows[k] = plane + row.offsets[k];
        kernels.blend({rows, row.shares.data(), static_cast<int>(row.offsets.size()), scratch, width_ * images_});
        return scratch;
    }

    int images_;
    std::vector<kind::Resize::Axis> axes_;
    Offsets reads_, writes_;  // of the planes
    std::vector<Row> rows_;   // of a new plane
    std::int64_t width_ = 0, new_width_ = 0;
};

// Whether every new pixel is one pixel, and of parts of `to` pixels each is made of the part of `from` in its place.
bool keeps_parts(const kind::Resize::Axis& axis, std::int64_t from, std::int64_t to) {
    const auto& [sources, shares] = axis;
    if (sources.shape[0] != 1) return false;
    for (std::int64_t i = 0; i < sources.shape[1]; ++i) {
        const std::int64_t within = sources.integers[i] - i / to * from;
        if (shares.data[i] != 1.0f || within != sources.integers[i % to] || within >= from) return false;
    }
    return true;
}

bool can_fold_resize(const FusedNetwork& network, const Operation& operation, int lanes) {
    const Shape &from = network.shapes[operation.inputs[0]], &to = network.shapes[operation.output];
    const auto& axes = std::get<kind::Resize>(operation.kind).axes;
    if (!foldable(from, lanes) || axes.size() > 2) return false;
    const Storage source = make_folded(from, lanes, false), target = make_folded(to, lanes, false);
    return keeps_parts(axes.back(), source.part_width(), target.part_width()) &&
           (axes.size() == 1 || keeps_parts(axes.front(), source.part_height(), target.part_height()));
}

double resize_cycles(const Setting& setting, const Operation& operation) {
    return streaming(setting, operation, setting.images > 1 || setting.output(operation).folded ? 0.05 : 0.3);
}

void compile_resize(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage& target = setting.output(operation);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    Resizing resizing(std::get<kind::Resize>(operation.kind), setting.input(operation), target, setting.images);
    compiler.need_scratch(resizing.scratch_words());
    Step& step = compiler.push(operation, "loop");
    step.items = resizing.items();
    step.work = static_cast<double>(elements(target.dims));
    step.run = [=, resizing = std::move(resizing), &kernels = setting.kernels](const Frame& frame, std::int64_t begin,
                                                                               std::int64_t end, Word* scratch) {
        resizing.run(kernels, begin, end, frame.floats(from), frame.floats(to), as_floats(scratch));
    };
}

std::optional<Kind> read_grid_sample(const Node& node) {
    if (node.op != "grid_sample") return {};
    using Padding = kind::GridSample::Padding;
    const std::string& padding = node.texts.at("padding");
    return kind::GridSample{node.texts.at("mode") == "nearest", integer_of(node, "aligned") != 0,
                            padding == "zeros"    ? Padding::kZeros
                            : padding == "border" ? Padding::kBorder
                                                  : Padding::kReflection};
}

// Between bounds, by as many reflections at them as that takes.
float reflected(float place, float low, float high) {
    if (low == high) return 0.0f;
    const float span = high - low, along = std::fabs(place - low), turns = std::floor(along / span),
                within = along - turns * span;
    return std::fmod(turns, 2.0f) == 0.0f ? low + within : high - within;
}

// In pixels, inside of the plane as the padding has it; outside of it with zeros around.
float place_of(float along, std::int64_t pixels, const kind::GridSample& how) {
    using Padding = kind::GridSample::Padding;
    const float size = static_cast<float>(pixels);
    float place = how.aligned ? (along + 1.0f) / 2.0f * (size - 1.0f) : ((along + 1.0f) * size - 1.0f) / 2.0f;
    if (how.padding == Padding::kReflection)
        place = how.aligned ? reflected(place, 0.0f, size - 1.0f) : reflected(place, -0.5f, size - 0.5f);
    return how.padding == Padding::kZeros ? place : std::min(std::max(place, 0.0f), size - 1.0f);
}

struct Tap {
    std::int64_t offset;
    float share;
};

// The pixels around a place that lie in the plane: rows, columns and strides of it as storage has them.
int taps_around(float y, float x, const Storage& planes, bool nearest, Tap (&taps)[4]) {
    const float top = nearest ? std::nearbyint(y) : std::floor(y), left = nearest ? std::nearbyint(x) : std::floor(x);
    const auto inside = [](float at, std::int64_t size) { return at >= 0.0f && at < static_cast<float>(size); };
    int count = 0;
    for (int i = 0; i < (nearest ? 1 : 2); ++i)
        for (int j = 0; j < (nearest ? 1 : 2); ++j) {
            const float row = top + static_cast<float>(i), column = left + static_cast<float>(j);
            if (!inside(row, planes.dims[1]) || !inside(column, planes.dims[2])) continue;
            const float down = i == 0 ? top + 1.0f - y : y - top, across = j == 0 ? left + 1.0f - x : x - left;
            taps[count++] = {static_cast<std::int64_t>(row) * planes.strides[1] +
                                 static_cast<std::int64_t>(column) * planes.strides[2],
                             nearest ? 1.0f : down * across};
        }
    return count;
}

void compile_grid_sample(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &planes = setting.input(operation, 0), &grid = setting.input(operation, 1),
                  &target = setting.output(operation);
    const std::int64_t from = compiler.place(operation.inputs[0]), at = compiler.place(operation.inputs[1]),
                       to = compiler.place(operation.output), width = target.dims[2];
    Step& step = compiler.push(operation, "loop");
    step.items = target.dims[1];
    step.work = 4.0 * static_cast<double>(elements(target.dims));
    step.run = [=, how = std::get<kind::GridSample>(operation.kind), images = setting.images](
                   const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        Tap taps[4];
        for (std::int64_t row = begin; row < end; ++row)
            for (std::int64_t column = 0; column < width; ++column)
                for (int image = 0; image < images; ++image) {
                    const float* place = frame.floats(at + row * grid.strides[0] + column * grid.strides[1]) + image;
                    const float x = place_of(place[0], planes.dims[2], how),
                                y = place_of(place[grid.strides[2]], planes.dims[1], how);
                    const int count = taps_around(y, x, planes, how.nearest, taps);
                    const float* read = frame.floats(from) + image;
                    float* written = frame.floats(to + row * target.strides[1] + column * target.strides[2]) + image;
                    for (std::int64_t c = 0; c < target.dims[0]; ++c) {
                        float sum = 0.0f;
                        for (int k = 0; k < count; ++k)
                            sum += taps[k].share * read[c * planes.strides[0] + taps[k].offset];
                        written[c * target.strides[0]] = sum;
                    }
                }
    };
}

// Borders are no parts of their own: nothing has to lie alike.
constexpr FoldingRules kResizeFolding = {.possible = can_fold_resize, .alike = 1};

}  // namespace

const Lowering lowerings::resize = {
    .read = read_resize, .cycles = resize_cycles, .compile = compile_resize, .folding = &kResizeFolding};
const Lowering lowerings::grid_sample = {.read = read_grid_sample, .cycles = streaming, .compile = compile_grid_sample};

}  // namespace secateur
