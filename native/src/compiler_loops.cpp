#include "compiler.hpp"

#include <algorithm>

namespace secateur {
namespace {

// Splits `size` floats into pieces for several threads, on cache lines.
std::int64_t pieces(std::int64_t size) { return std::clamp<std::int64_t>(size / 4096, 1, 64); }
std::int64_t edge(std::int64_t size, std::int64_t piece, std::int64_t all) {
    return piece == all ? size : size * piece / all / 16 * 16;
}

}  // namespace

void Compiler::add_affine(const Operation& operation) {
    const Storage& storage = storages_[operation.output];
    const std::int64_t from = place(operation.inputs[0]), to = place(operation.output), stride = storage.strides[0];
    Step& step = push(operation, "loop");
    step.items = storage.dims[0];
    step.run = [=, affine = kernels_.affine, scale = operation.scale, shift = operation.bias, clamp = operation.clamp](
                   const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
        float* arena = frame.arena.get();
        affine(arena + from + begin * stride, stride, scale.data() + begin, shift.data() + begin, clamp.low, clamp.high,
               arena + to + begin * stride, end - begin, stride);
    };
}

void Compiler::add_unary(const Operation& operation) {
    const std::int64_t from = place(operation.inputs[0]), to = place(operation.output), size = storages_[operation.output].size;
    Step& step = push(operation, "loop");
    step.items = pieces(size);
    step.run = [=, all = step.items, unary = kernels_.unary, kind = operation.unary, slope = operation.slope](
                   const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
        const std::int64_t first = edge(size, begin, all), last = edge(size, end, all);
        unary(kind, slope, frame.arena.get() + from + first, frame.arena.get() + to + first, last - first);
    };
}

void Compiler::add_binary(const Operation& operation) {
    const Storage &target = storages_[operation.output], &left = storages_[operation.inputs[0]], &right = storages_[operation.inputs[1]];
    const std::int64_t a = place(operation.inputs[0]), b = place(operation.inputs[1]), to = place(operation.output), size = target.size;
    const Binary kind = operation.binary;
    const Clamp clamp = operation.clamp;
    Step& step = push(operation, "loop");
    if (left.dims == target.dims && right.dims == target.dims) {
        step.items = pieces(size);
        step.run = [=, all = step.items, binary = kernels_.binary](const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
            const std::int64_t first = edge(size, begin, all), last = edge(size, end, all);
            float* arena = frame.arena.get();
            binary(kind, arena + a + first, arena + b + first, clamp.low, clamp.high, arena + to + first, last - first);
        };
        return;
    }
    const Operand one{a, broadcast(left, target.dims)}, other{b, broadcast(right, target.dims)}, made{to, target.strides};
    step.run = [=, dims = target.dims, images = images_](const Frame& frame, std::int64_t, std::int64_t, float*) {
        combine(kind, clamp, dims, one, other, made, frame.arena.get(), images);
    };
}

void Compiler::add_pool(const Operation& operation) {
    const Planes in = planes(operation.inputs[0]), out = planes(operation.output);
    const std::int64_t from = place(operation.inputs[0]), to = place(operation.output);
    const auto narrow = [](std::int64_t value) { return static_cast<int>(value); };
    PoolRun run{nullptr, nullptr, in.channel, in.row, in.column, out.channel, out.row, out.column, 0,
                narrow(in.height), narrow(in.width), narrow(out.height), narrow(out.width),
                narrow(operation.kernel[0]), narrow(operation.kernel[1]), narrow(operation.stride[0]), narrow(operation.stride[1]),
                narrow(operation.padding[0]), narrow(operation.padding[1]), narrow(operation.padding[2]), narrow(operation.padding[3]),
                narrow(operation.dilation[0]), narrow(operation.dilation[1]), operation.average, operation.count_padding, images_};
    Step& step = push(operation, "loop");
    step.items = in.channels;
    step.work = static_cast<double>(elements(network_.shapes[operation.output])) *
                static_cast<double>(std::min(operation.kernel[0], in.height)) * static_cast<double>(std::min(operation.kernel[1], in.width));
    step.run = [=, pool = kernels_.pool](const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
        PoolRun part = run;
        part.source = frame.arena.get() + from + begin * run.source_channel;
        part.target = frame.arena.get() + to + begin * run.target_channel;
        part.channels = static_cast<int>(end - begin);
        pool(part);
    };
}

void Compiler::add_mean(const Operation& operation) {
    const Storage &source = storages_[operation.inputs[0]], &target = storages_[operation.output];
    const std::int64_t from = place(operation.inputs[0]), to = place(operation.output), count = elements(target.dims);
    Step& step = push(operation, "loop");
    step.items = std::clamp<std::int64_t>(count / 16, 1, 64);
    step.work = static_cast<double>(std::max(count, elements(source.dims)));
    if (operation.axes.empty()) {
        step.run = [=, windows = AdaptiveWindows(source, target), images = images_, all = step.items](
                       const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
            average_adaptive(windows, count * begin / all, count * end / all, frame.arena.get() + from, frame.arena.get() + to, images);
        };
        return;
    }
    step.run = [=, windows = axis_windows(source, target, operation.axes), images = images_, all = step.items](
                   const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
        average_windows(windows, count * begin / all, count * end / all, frame.arena.get() + from, frame.arena.get() + to, images);
    };
}

void Compiler::add_softmax(const Operation& operation) {
    const Storage& storage = storages_[operation.output];
    const std::int64_t from = place(operation.inputs[0]), to = place(operation.output), axis = operation.axes[0];
    const auto lines = lines_of(storage, axis, axis + 1);
    Step& step = push(operation, "loop");
    step.run = [=, images = images_](const Frame& frame, std::int64_t, std::int64_t, float*) {
        softmax_lines(lines, frame.arena.get() + from, frame.arena.get() + to, images);
    };
}

void Compiler::add_layer_norm(const Operation& operation) {
    const Storage& storage = storages_[operation.output];
    const std::int64_t from = place(operation.inputs[0]), to = place(operation.output), rank = static_cast<std::int64_t>(storage.dims.size());
    const auto lines = lines_of(storage, rank - operation.start, rank);
    const auto copy = [](const Array& array) {
        return array.data == nullptr ? std::vector<float>{} : std::vector<float>(array.data, array.data + elements(array.shape));
    };
    Step& step = push(operation, "loop");
    step.run = [=, images = images_, epsilon = operation.epsilon, weight = copy(operation.norm_weight), bias = copy(operation.norm_bias)](
                   const Frame& frame, std::int64_t, std::int64_t, float*) {
        normalise_lines(lines, weight, bias, epsilon, frame.arena.get() + from, frame.arena.get() + to, images);
    };
}

void Compiler::add_copies(const Operation& operation, std::vector<std::pair<std::int64_t, Copy>> parts) {
    const std::int64_t to = place(operation.output);
    Step& step = push(operation, "copy");
    step.run = [to, parts = std::move(parts)](const Frame& frame, std::int64_t, std::int64_t, float*) {
        for (const auto& [from, copy] : parts) copy.run(frame.arena.get() + from, frame.arena.get() + to);
    };
}

void Compiler::add_reshape(const Operation& operation) {
    if (aliases(operation)) return;
    const std::int64_t from = place(operation.inputs[0]), to = place(operation.output);
    Step& step = push(operation, "copy");
    step.run = [from, to, segments = segments_between(storages_[operation.inputs[0]], storages_[operation.output], images_)](
                   const Frame& frame, std::int64_t, std::int64_t, float*) {
        copy_segments(segments, frame.arena.get() + from, frame.arena.get() + to);
    };
}

void Compiler::add_permute(const Operation& operation) {
    const Storage &source = storages_[operation.inputs[0]], &target = storages_[operation.output];
    std::vector<std::int64_t> strides;
    for (std::int64_t axis : operation.axes) strides.push_back(source.strides[axis]);
    add_copies(operation, {{place(operation.inputs[0]), Copy(target.dims, strides, target.strides, images_)}});
}

void Compiler::add_slice(const Operation& operation) {
    const Storage &source = storages_[operation.inputs[0]], &target = storages_[operation.output];
    const std::int64_t skipped = operation.start * source.strides[operation.axes[0]];
    add_copies(operation, {{place(operation.inputs[0]) + skipped, Copy(target.dims, source.strides, target.strides, images_)}});
}

void Compiler::add_concat(const Operation& operation) {
    const Storage& target = storages_[operation.output];
    const std::int64_t axis = operation.axes[0];
    std::vector<std::pair<std::int64_t, Copy>> parts;
    std::int64_t start = 0;
    for (int value : operation.inputs) {
        const Storage& source = storages_[value];
        if (elements(source.dims) > 0)
            parts.emplace_back(place(value), Copy(source.dims, source.strides, target.strides, images_, start * target.strides[axis]));
        start += source.dims[axis];
    }
    add_copies(operation, std::move(parts));
}

void Compiler::add_conversion(const Operation& operation) {
    const Storage &source = storages_[operation.inputs[0]], &target = storages_[operation.output];
    const std::int64_t from = place(operation.inputs[0]), to = place(operation.output);
    const auto sources = pixel_offsets(source), targets = pixel_offsets(target);
    std::vector<std::pair<std::int32_t, std::int32_t>> moves;
    for (std::size_t i = 0; i < sources.size(); ++i) moves.emplace_back(sources[i], targets[i]);
    Step& step = push(operation, "copy");
    step.items = source.dims[0];
    step.run = [=, source_plane = source.strides[0], target_plane = target.strides[0]](const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
        for (std::int64_t channel = begin; channel < end; ++channel) {
            const float* read = frame.arena.get() + from + channel * source_plane;
            float* written = frame.arena.get() + to + channel * target_plane;
            for (const auto& [at, where] : moves) written[where] = read[at];
        }
    };
}

void Compiler::add_border(int value) {
    const Storage& storage = storages_[value];
    const std::int64_t at = place(value) + storage.origin, plane = storage.strides[0];
    Step& step = push("border", "border", storage.dims, "copy");
    step.items = storage.dims[0];
    step.run = [=, border = border_of(storage, kernels_.lanes), fill = kernels_.fill_border](const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
        fill({frame.arena.get() + at + begin * plane, plane, static_cast<int>(end - begin), border.moves.data(), static_cast<int>(border.moves.size()), border.lanes.data()});
    };
}

}  // namespace secateur
