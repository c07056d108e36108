#include "operations.hpp"

#include <algorithm>
#include <cmath>

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

Offsets dense_offsets(std::int64_t count) {
    Offsets offsets(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) offsets[i] = i;
    return offsets;
}

std::vector<std::int64_t> broadcast(const Storage& source, const Shape& dims) {
    std::vector<std::int64_t> strides(dims.size(), 0);
    const std::size_t missing = dims.size() - source.dims.size();
    for (std::size_t axis = 0; axis < source.dims.size(); ++axis)
        if (source.dims[axis] != 1 || dims[missing + axis] == 1) strides[missing + axis] = source.strides[axis];
    return strides;
}

std::vector<Segment> segments_of(const Offsets& sources, const Offsets& targets, int images) {
    std::vector<Segment> segments;
    for (std::size_t i = 0; i < sources.size(); ++i) {
        if (!segments.empty()) {
            Segment& last = segments.back();
            if (last.source + last.length == sources[i] && last.target + last.length == targets[i]) {
                last.length += images;
                continue;
            }
        }
        segments.push_back({sources[i], targets[i], images});
    }
    return segments;
}

void copy_segments(const std::vector<Segment>& segments, const float* source, float* target) {
    for (const Segment& each : segments) std::copy_n(source + each.source, each.length, target + each.target);
}

void combine(Binary kind, Clamp clamp, const float* left, const Offsets& lefts, const float* right, const Offsets& rights,
             float* target, const Offsets& targets, int images) {
    for (std::size_t i = 0; i < targets.size(); ++i)
        for (int image = 0; image < images; ++image) {
            const float a = left[lefts[i] + image], b = right[rights[i] + image];
            float value = kind == Binary::kAdd ? a + b : a * b;
            value = clamp.low > value ? clamp.low : value;
            target[targets[i] + image] = clamp.high < value ? clamp.high : value;
        }
}

Windows adaptive_windows(const Storage& source, const Storage& target) {
    Windows result;
    const auto low = [](std::int64_t i, std::int64_t from, std::int64_t to) { return i * from / to; };
    const auto high = [](std::int64_t i, std::int64_t from, std::int64_t to) { return ((i + 1) * from + to - 1) / to; };
    for (std::int64_t y = 0; y < target.dims[1]; ++y)
        for (std::int64_t x = 0; x < target.dims[2]; ++x) {
            Offsets form;
            for (std::int64_t i = low(y, source.dims[1], target.dims[1]); i < high(y, source.dims[1], target.dims[1]); ++i)
                for (std::int64_t j = low(x, source.dims[2], target.dims[2]); j < high(x, source.dims[2], target.dims[2]); ++j)
                    form.push_back(i * source.strides[1] + j * source.strides[2]);
            result.forms.push_back(std::move(form));
        }
    for (std::int64_t c = 0; c < target.dims[0]; ++c)
        for (std::int64_t y = 0; y < target.dims[1]; ++y)
            for (std::int64_t x = 0; x < target.dims[2]; ++x)
                result.windows.push_back({c * target.strides[0] + y * target.strides[1] + x * target.strides[2], c * source.strides[0],
                                          static_cast<std::size_t>(y * target.dims[2] + x)});
    return result;
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

void average_windows(const Windows& windows, std::int64_t begin, std::int64_t end, const float* source, float* target,
                     int images) {
    constexpr std::size_t kSums = 4;  // that do not wait for each other
    for (std::int64_t i = begin; i < end; ++i) {
        const Windows::Window& window = windows.windows[i];
        const Offsets& form = windows.forms[window.form];
        const float* from = source + window.source;
        float* to = target + window.target;
        const float count = static_cast<float>(form.size());
        if (images == 1) {
            float sums[kSums] = {};
            std::size_t k = 0;
            for (; k + kSums <= form.size(); k += kSums)
                for (std::size_t j = 0; j < kSums; ++j) sums[j] += from[form[k + j]];
            for (; k < form.size(); ++k) sums[0] += from[form[k]];
            *to = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / count;
            continue;
        }
        std::fill_n(to, images, 0.0f);
        for (std::int64_t offset : form)
            for (int image = 0; image < images; ++image) to[image] += from[offset + image];
        for (int image = 0; image < images; ++image) to[image] /= count;
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

void softmax_lines(const Lines& lines, const float* source, float* target, int images) {
    for (std::int64_t start : lines.starts)
        for (int image = 0; image < images; ++image) {
            const float* from = source + start + image;
            float* to = target + start + image;
            float most = -INFINITY, sum = 0;
            for (std::int64_t step : lines.steps) most = most > from[step] ? most : from[step];
            for (std::int64_t step : lines.steps) sum += to[step] = std::exp(from[step] - most);
            for (std::int64_t step : lines.steps) to[step] /= sum;
        }
}

void normalise_lines(const Lines& lines, const std::vector<float>& weight, const std::vector<float>& bias, double epsilon,
                     const float* source, float* target, int images) {
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
