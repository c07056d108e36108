#include "operations.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <limits>
#include "memory.hpp"

namespace secateur {

Offsets offsets_of(const Shape& dims, const std::vector<std::int64_t>& strides) {
    Offsets offsets{0};
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
        Offsets finer;
        finer.reserve(offsets.size() * static_cast<std::size_t>(dims[axis]));
        for (std::int64_t offset : offsets)
            for (std::int64_t i = 0; i < dims[axis]; ++i) finer.push_back(offset + i * strides[axis]);
        offsets = std::move(finer);
    }
    return offsets;
}

std::vector<std::int64_t> dense_strides(const Shape& dims, int images) {
    std::vector<std::int64_t> strides(dims.size(), images);
    for (std::size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
    return strides;
}

std::vector<std::int64_t> broadcast(const Storage& source, const Shape& dims) {
    std::vector<std::int64_t> strides(dims.size(), 0);
    const std::size_t missing = dims.size() - source.dims.size();
    for (std::size_t axis = 0; axis < source.dims.size(); ++axis)
        if (source.dims[axis] != 1 || dims[missing + axis] == 1) strides[missing + axis] = source.strides[axis];
    return strides;
}

namespace {

// Calls visit(offsets) for every position in the first axes of dims; strides: for each of several values.
template <std::size_t Count, typename Visit>
void walk(const Shape& dims, std::size_t axes, const std::array<const std::vector<std::int64_t>*, Count>& strides,
          const Visit& visit) {
    std::array<std::int64_t, Count> offsets{};
    std::vector<std::int64_t> at(axes, 0);
    for (std::int64_t left = elements(Shape(dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(axes))); left > 0;
         --left) {
        visit(offsets);
        for (std::size_t axis = axes; axis-- > 0;) {
            const bool on = ++at[axis] < dims[axis];
            const std::int64_t steps = on ? 1 : 1 - dims[axis];
            for (std::size_t i = 0; i < Count; ++i) offsets[i] += steps * (*strides[i])[axis];
            if (on) break;
            at[axis] = 0;
        }
    }
}

// The stretches of a value, its gaps left out, and where they lie in one without gaps.
std::vector<Segment> stretches(const Storage& storage, int images) {
    const Copy copy(storage.dims, storage.strides, dense_strides(storage.dims, images), images);
    std::vector<Segment> found;
    walk<2>(copy.dims, copy.dims.size(), {&copy.source_strides, &copy.target_strides},
            [&](const auto& at) { found.push_back({at[0], at[1], copy.length}); });
    return found;
}

// What of a copy word by word is a transposition, as far as it is worth one.
std::optional<Copy::Turn> turn_of(const Copy& copy) {
    constexpr std::int64_t kWorth = 4;
    const Shape& dims = copy.dims;
    const std::vector<std::int64_t>&sources = copy.source_strides, &targets = copy.target_strides;
    if (copy.length != 1 || dims.size() < 2 || targets.back() != 1 || dims.back() < kWorth) return {};
    const auto found = std::find(sources.begin(), sources.end() - 1, 1);
    const auto axis = found - sources.begin();
    if (found == sources.end() - 1 || dims[static_cast<std::size_t>(axis)] < kWorth) return {};
    const auto others = [=](std::vector<std::int64_t> all) {
        all.pop_back();
        all.erase(all.begin() + axis);
        return all;
    };
    return Copy::Turn{others(dims),
                      others(sources),
                      others(targets),
                      dims.back(),
                      dims[static_cast<std::size_t>(axis)],
                      sources.back(),
                      targets[static_cast<std::size_t>(axis)]};
}

}  // namespace

Copy::Copy(const Shape& given, const std::vector<std::int64_t>& given_sources,
           const std::vector<std::int64_t>& given_targets, int images, std::int64_t target_)
    : length(images), target(target_) {
    std::vector<std::size_t> order;  // by what the target goes through
    for (std::size_t axis = 0; axis < given.size(); ++axis)
        if (given[axis] != 1) order.push_back(axis);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return given_targets[a] > given_targets[b]; });
    Shape dims_;
    std::vector<std::int64_t> sources, targets;
    for (std::size_t axis : order)
        dims_.push_back(given[axis]), sources.push_back(given_sources[axis]), targets.push_back(given_targets[axis]);
    std::size_t axes = dims_.size();
    for (; axes > 0 && sources[axes - 1] == length && targets[axes - 1] == length; --axes) length *= dims_[axes - 1];
    for (std::size_t axis = 0; axis < axes; ++axis) {
        // Two axes that are walked as one in both values.
        if (!dims.empty() && source_strides.back() == sources[axis] * dims_[axis] &&
            target_strides.back() == targets[axis] * dims_[axis]) {
            dims.back() *= dims_[axis], source_strides.back() = sources[axis], target_strides.back() = targets[axis];
            continue;
        }
        dims.push_back(dims_[axis]), source_strides.push_back(sources[axis]), target_strides.push_back(targets[axis]);
    }
    turn = turn_of(*this);
}

void Copy::run(const Word* from, Word* to, const Kernels& kernels) const {
    to += target;
    if (dims.empty()) {
        std::copy_n(from, length, to);
        return;
    }
    if (turn) {
        walk<2>(turn->dims, turn->dims.size(), {&turn->source_strides, &turn->target_strides}, [&](const auto& at) {
            kernels.transpose(from + at[0], turn->source, to + at[1], turn->target, turn->rows, turn->columns);
        });
        return;
    }
    const std::int64_t count = dims.back(), source = source_strides.back(), step = target_strides.back();
    walk<2>(dims, dims.size() - 1, {&source_strides, &target_strides}, [&](const auto& at) {
        const Word* read = from + at[0];
        Word* written = to + at[1];
        if (length == 1)
            for (std::int64_t i = 0; i < count; ++i) written[i * step] = read[i * source];
        else
            for (std::int64_t i = 0; i < count; ++i) std::copy_n(read + i * source, length, written + i * step);
    });
}

namespace {

// A row of as many parts side by side, whose pixels are `lanes` words apart where it is folded.
template <int Parts, bool Folds>
void convert_row(const Word* from, Word* to, std::int64_t width, std::int64_t lanes) {
    for (std::int64_t x = 0; x < width; ++x)
        #pragma GCC unroll 4
        for (int part = 0; part < Parts; ++part)
            if constexpr (Folds) to[x * lanes + part] = from[part * width + x];
            else to[part * width + x] = from[x * lanes + part];
}

using ConvertRow = void (*)(const Word*, Word*, std::int64_t, std::int64_t);

template <bool Folds>
ConvertRow converting(std::int64_t parts) {
    return parts == 4 ? convert_row<4, Folds> : parts == 2 ? convert_row<2, Folds> : convert_row<1, Folds>;
}

}  // namespace

void Conversion::run(std::int64_t begin, std::int64_t end, const Word* from, Word* to) const {
    const bool folds = target_.folded;
    const Storage &parts = folds ? target_ : source_, &rows = folds ? source_ : target_;
    const ConvertRow convert = folds ? converting<true>(parts.parts_x) : converting<false>(parts.parts_x);
    const std::int64_t width = parts.part_width(), height = parts.part_height(), lanes = parts.strides[2];
    for (std::int64_t channel = begin; channel < end; ++channel)
        for (std::int64_t y = 0; y < rows.dims[1]; ++y) {
            const std::int64_t row = channel * rows.strides[0] + y * rows.strides[1],
                               part = channel * parts.strides[0] + parts.origin + y % height * parts.strides[1] +
                                      y / height * parts.parts_x;
            if (folds) convert(from + row, to + part, width, lanes);
            else convert(from + part, to + row, width, lanes);
        }
}

std::vector<Segment> segments_between(const Storage& source, const Storage& target, int images) {
    const auto read = stretches(source, images);
    auto written = stretches(target, images);
    for (Segment& each : written) std::swap(each.source, each.target);
    std::vector<Segment> segments;
    for (std::size_t i = 0, j = 0; i < read.size() && j < written.size();) {
        // Both are stretches of the dense value: what they share is copied.
        const std::int64_t first = std::max(read[i].target, written[j].source);
        const std::int64_t end_read = read[i].target + read[i].length,
                           end_written = written[j].source + written[j].length;
        segments.push_back({read[i].source + first - read[i].target, written[j].target + first - written[j].source,
                            std::min(end_read, end_written) - first});
        if (end_read <= end_written) ++i;
        if (end_written <= end_read) ++j;
    }
    return segments;
}

void copy_segments(const std::vector<Segment>& segments, const Word* source, Word* target) {
    for (const Segment& each : segments) std::copy_n(source + each.source, each.length, target + each.target);
}

void order_axes(Shape& dims, Operand& left, Operand& right, Operand& target) {
    std::vector<std::size_t> order;
    for (std::size_t axis = 0; axis < dims.size(); ++axis)
        if (dims[axis] != 1) order.push_back(axis);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return target.strides[a] > target.strides[b]; });
    const auto reorder = [&](std::vector<std::int64_t>& numbers) {
        std::vector<std::int64_t> ordered;
        for (std::size_t axis : order) ordered.push_back(numbers[axis]);
        numbers = std::move(ordered);
    };
    reorder(dims), reorder(left.strides), reorder(right.strides), reorder(target.strides);
}

void combine(void (*run)(const BinaryRun&), Clamp clamp, const Shape& dims, const Operand& left, const Operand& right,
             const Operand& target, float* arena, int images) {
    const std::size_t outer = dims.empty() ? 0 : dims.size() - 1;
    const auto last = [&](const Operand& operand) { return dims.empty() ? 0 : operand.strides.back() / images; };
    const std::int64_t count = dims.empty() ? 1 : dims.back(), lefts = last(left), rights = last(right);
    const std::int64_t step = dims.empty() ? images : target.strides.back();
    // The last axis at a time, unless an operand is one position there and its images are several, or there are gaps.
    const bool together = step == images && (images == 1 || (lefts == 1 && rights == 1));
    walk<3>(dims, outer, {&left.strides, &right.strides, &target.strides}, [&](const auto& at) {
        const float *a = arena + left.place + at[0], *b = arena + right.place + at[1];
        float* to = arena + target.place + at[2];
        if (together)
            return run(
                {a, b, to, images == 1 ? lefts : 1, images == 1 ? rights : 1, count * images, clamp.low, clamp.high});
        for (std::int64_t i = 0; i < count; ++i)
            run({a + i * lefts * images, b + i * rights * images, to + i * step, 1, 1, images, clamp.low, clamp.high});
    });
}

void choose(const Shape& dims, const Operand& truth, const Operand& left, const Operand& right, const Operand& target,
            float* arena, int images) {
    const std::size_t outer = dims.empty() ? 0 : dims.size() - 1;
    const auto last = [&](const Operand& operand) { return dims.empty() ? 0 : operand.strides.back(); };
    const std::int64_t count = dims.empty() ? 1 : dims.back(), truths = last(truth), lefts = last(left),
                       rights = last(right), targets = last(target);
    walk<4>(dims, outer, {&truth.strides, &left.strides, &right.strides, &target.strides}, [&](const auto& at) {
        const float *asked = arena + truth.place + at[0], *yes = arena + left.place + at[1],
                    *no = arena + right.place + at[2];
        float* to = arena + target.place + at[3];
        for (std::int64_t i = 0; i < count; ++i, asked += truths, yes += lefts, no += rights, to += targets)
            for (int image = 0; image < images; ++image) to[image] = asked[image] != 0.0f ? yes[image] : no[image];
    });
}

Windows axis_windows(const Storage& source, const Storage& target, const std::vector<std::int64_t>& axes) {
    Shape kept, reduced;
    std::vector<std::int64_t> kept_strides, reduced_strides;
    for (std::int64_t axis = 0; axis < static_cast<std::int64_t>(source.dims.size()); ++axis) {
        const bool gone = std::find(axes.begin(), axes.end(), axis) != axes.end();
        (gone ? reduced : kept).push_back(source.dims[axis]);
        (gone ? reduced_strides : kept_strides).push_back(source.strides[axis]);
    }
    const Offsets starts = offsets_of(kept, kept_strides), targets = offsets_of(target.dims, target.strides);
    Windows result{{}, {offsets_of(reduced, reduced_strides)}};
    for (std::size_t i = 0; i < starts.size(); ++i) result.windows.push_back({targets[i], starts[i], 0});
    return result;
}

namespace {

constexpr std::size_t kChains = 4;  // that do not wait for each other

// Everything of a form combined, beginning with `none`; finish(result): what becomes of that.
template <typename Combine, typename Finish>
void reduce_form(const Offsets& form, const float* from, float* to, int images, float none, const Combine& combine,
                 const Finish& finish) {
    if (images == 1) {
        float chains[kChains];
        std::fill_n(chains, kChains, none);
        std::size_t k = 0;
        for (; k + kChains <= form.size(); k += kChains)
            for (std::size_t j = 0; j < kChains; ++j) chains[j] = combine(chains[j], from[form[k + j]]);
        for (; k < form.size(); ++k) chains[0] = combine(chains[0], from[form[k]]);
        *to = finish(combine(combine(chains[0], chains[1]), combine(chains[2], chains[3])));
        return;
    }
    std::fill_n(to, images, none);
    for (std::int64_t offset : form)
        for (int image = 0; image < images; ++image) to[image] = combine(to[image], from[offset + image]);
    for (int image = 0; image < images; ++image) to[image] = finish(to[image]);
}

constexpr auto kSum = [](float a, float b) { return a + b; };
constexpr auto kItself = [](float a) { return a; };
// Two choices one after the other: `||` keeps loops from vectors.
constexpr auto kLarger = [](float a, float b) {
    const float larger = a > b ? a : b;
    return a != a ? a : larger;
};
constexpr auto kSmaller = [](float a, float b) {
    const float smaller = a < b ? a : b;
    return a != a ? a : smaller;
};

void average_form(const Offsets& form, const float* from, float* to, int images) {
    const float count = static_cast<float>(form.size());
    reduce_form(form, from, to, images, 0.0f, kSum, [=](float sum) { return sum / count; });
}

void reduce_form(kind::Reduction reduction, const Offsets& form, const float* from, float* to, int images) {
    constexpr float kEndless = std::numeric_limits<float>::infinity();
    switch (reduction) {
        case kind::Reduction::kMean: return average_form(form, from, to, images);
        case kind::Reduction::kSum: return reduce_form(form, from, to, images, 0.0f, kSum, kItself);
        case kind::Reduction::kProduct:
            return reduce_form(form, from, to, images, 1.0f, [](float a, float b) { return a * b; }, kItself);
        case kind::Reduction::kLargest:  // a NaN is what comes out, here and below
            return reduce_form(form, from, to, images, -kEndless, kLarger, kItself);
        case kind::Reduction::kSmallest: return reduce_form(form, from, to, images, kEndless, kSmaller, kItself);
    }
}

}  // namespace

void reduce_windows(kind::Reduction reduction, const Windows& windows, std::int64_t begin, std::int64_t end,
                    const float* source, float* target, int images) {
    for (std::int64_t i = begin; i < end; ++i) {
        const Windows::Window& window = windows.windows[i];
        reduce_form(reduction, windows.forms[window.form], source + window.source, target + window.target, images);
    }
}

AdaptiveWindows::AdaptiveWindows(const Storage& source_, const Storage& target_) : source(source_), target(target_) {
    for (std::size_t axis : {0, 1}) {
        const std::int64_t from = source.dims[axis + 1], to = target.dims[axis + 1];
        for (std::int64_t i = 0; i < to; ++i) bounds[axis].emplace_back(i * from / to, ((i + 1) * from + to - 1) / to);
    }
}

void average_adaptive(const AdaptiveWindows& windows, std::int64_t begin, std::int64_t end, const float* from,
                      float* to, int images) {
    const Storage &source = windows.source, &target = windows.target;
    const std::int64_t channels = target.dims[0], width = target.dims[2];
    std::int64_t c = begin % channels, x = begin / channels % width, y = begin / channels / width;
    Offsets form;
    for (std::int64_t item = begin; item < end; ++item) {
        if (item == begin || c == 0) {
            form.clear();
            const auto [top, bottom] = windows.bounds[0][static_cast<std::size_t>(y)];
            const auto [left, right] = windows.bounds[1][static_cast<std::size_t>(x)];
            for (std::int64_t i = top; i < bottom; ++i)
                for (std::int64_t j = left; j < right; ++j)
                    form.push_back(i * source.strides[1] + j * source.strides[2]);
        }
        average_form(form, from + c * source.strides[0],
                     to + c * target.strides[0] + y * target.strides[1] + x * target.strides[2], images);
        if (++c < channels) continue;
        c = 0;
        if (++x == width) x = 0, ++y;
    }
}

Lines lines_of(const Storage& storage, std::int64_t first, std::int64_t last) {
    Shape around, along;
    std::vector<std::int64_t> around_strides, along_strides;
    for (std::int64_t axis = 0; axis < static_cast<std::int64_t>(storage.dims.size()); ++axis) {
        const bool inside = axis >= first && axis < last;
        (inside ? along : around).push_back(storage.dims[axis]);
        (inside ? along_strides : around_strides).push_back(storage.strides[axis]);
    }
    return {offsets_of(around, around_strides), offsets_of(along, along_strides)};
}

void sum_along(const Lines& from, const Lines& to, std::size_t line, const float* source, float* target, int images) {
    source += from.starts[line], target += to.starts[line];
    for (int image = 0; image < images; ++image) {
        double sum = 0;
        for (std::size_t i = 0; i < to.steps.size(); ++i)
            target[to.steps[i] + image] = static_cast<float>(sum += source[from.steps[i] + image]);
    }
}

namespace {

constexpr std::int64_t kSoftened = 16;  // lines at a time

std::int64_t softmax_pitch(const Lines& lines, const Kernels& kernels) {
    return round_up(static_cast<std::int64_t>(lines.steps.size()), kernels.lanes);
}

// Nothing but −∞ has no shares.
float share_of(float factor) { return factor > 1.0f ? NAN : factor; }

}  // namespace

std::size_t softmax_words(const Lines& lines, const Kernels& kernels) {
    const std::int64_t rows = std::max<std::int64_t>(kSoftened, kernels.lanes);
    return static_cast<std::size_t>(rows * (softmax_pitch(lines, kernels) + 1) + kOverread);
}

void softmax_lines(const Lines& lines, const Kernels& kernels, std::int64_t begin, std::int64_t end,
                   const float* source, float* target, int images, float* scratch) {
    const std::int64_t count = static_cast<std::int64_t>(lines.steps.size()), pitch = softmax_pitch(lines, kernels),
                       lanes = kernels.lanes, vectors = (images + lanes - 1) / lanes;
    float* factors = scratch + std::max(kSoftened, lanes) * pitch;
    if (images > 1) {
        for (std::int64_t item = begin; item < end; ++item) {
            const std::int64_t first = item % vectors * lanes, some = std::min(lanes, images - first);
            const std::int64_t start = lines.starts[static_cast<std::size_t>(item / vectors)] + first;
            for (std::int64_t i = 0; i < count; ++i)
                std::copy_n(source + start + lines.steps[static_cast<std::size_t>(i)], some, scratch + i * lanes);
            kernels.soften_images({scratch, nullptr, 0, 1.0f, 1, static_cast<int>(count), factors});
            for (std::int64_t lane = 0; lane < lanes; ++lane) factors[lane] = share_of(factors[lane]);
            for (std::int64_t i = 0; i < count; ++i) {
                float* to = target + start + lines.steps[static_cast<std::size_t>(i)];
                for (std::int64_t lane = 0; lane < some; ++lane) to[lane] = scratch[i * lanes + lane] * factors[lane];
            }
        }
        return;
    }
    const bool together = count > 0 && lines.steps.back() == count - 1;
    for (std::int64_t first = begin; first < end; first += kSoftened) {
        const std::int64_t some = std::min(kSoftened, end - first);
        for (std::int64_t row = 0; row < some; ++row) {
            const float* from = source + lines.starts[static_cast<std::size_t>(first + row)];
            float* scores = scratch + row * pitch;
            if (together) std::copy_n(from, count, scores);
            else
                for (std::int64_t i = 0; i < count; ++i) scores[i] = from[lines.steps[static_cast<std::size_t>(i)]];
        }
        kernels.soften({scratch, nullptr, pitch, 1.0f, static_cast<int>(some), static_cast<int>(count), factors});
        for (std::int64_t row = 0; row < some; ++row) {
            float* to = target + lines.starts[static_cast<std::size_t>(first + row)];
            const float *scores = scratch + row * pitch, factor = share_of(factors[row]);
            if (together)
                for (std::int64_t i = 0; i < count; ++i) to[i] = scores[i] * factor;
            else
                for (std::int64_t i = 0; i < count; ++i)
                    to[lines.steps[static_cast<std::size_t>(i)]] = scores[i] * factor;
        }
    }
}

void normalise_lines(const Lines& lines, const std::vector<float>& weight, const std::vector<float>& bias,
                     double epsilon, const float* source, float* target, int images) {
    const double count = static_cast<double>(lines.steps.size());
    for (std::int64_t start : lines.starts)
        for (int image = 0; image < images; ++image) {
            const float* from = source + start + image;
            float* to = target + start + image;
            double mean = 0, variance = 0;
            for (std::int64_t step : lines.steps) mean += from[step];
            mean /= count;
            for (std::int64_t step : lines.steps) variance += (from[step] - mean) * (from[step] - mean);
            const double scale = 1 / std::sqrt(variance / count + epsilon);
            for (std::size_t i = 0; i < lines.steps.size(); ++i) {
                double value = (from[lines.steps[i]] - mean) * scale;
                if (!weight.empty()) value *= weight[i];
                if (!bias.empty()) value += bias[i];
                to[lines.steps[i]] = static_cast<float>(value);
            }
        }
}

}  // namespace secateur
