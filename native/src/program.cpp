#include "secateur/program.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "operations.hpp"
#include "secateur/convolution.hpp"
#include "secateur/threads.hpp"
#include "secateur/vector_product.hpp"

namespace secateur {
namespace {

// Floats from one row to the next: whole vectors, or a fraction of one that several rows fill.
std::int64_t row_pitch(std::int64_t width, int lanes) {
    if (width >= lanes) return round_up(width, lanes);
    std::int64_t pitch = 1;
    while (pitch < width) pitch *= 2;
    return pitch;
}

Storage make_storage(const Shape& dims, int images, int lanes) {
    Storage storage{dims, std::vector<std::int64_t>(dims.size()), images};
    if (images == 1 && dims.size() == 3 && dims[1] * dims[2] > 1) {
        const std::int64_t pitch = row_pitch(dims[2], lanes);
        std::int64_t plane = round_up(dims[1] * pitch, lanes);
        if (plane % 32 == 0) plane += 16;  // an odd number of lines apart, planes share no sets of the caches
        storage.strides = {plane, pitch, 1};
        storage.size = dims[0] * plane;
        return storage;
    }
    for (std::size_t i = dims.size(); i-- > 0;) {
        storage.strides[i] = storage.size;
        storage.size *= dims[i];
    }
    // Planes a power of two apart would share the sets of the caches.
    if (images > 1 && dims.size() == 3 && dims[0] > 1 && storage.strides[0] % 512 == 0) {
        storage.strides[0] += 7 * 16;
        storage.size = dims[0] * storage.strides[0];
    }
    return storage;
}

bool dense(const Storage& storage, int images) { return storage.size == elements(storage.dims) * images; }

// Lays buffers into one arena: those that live at the same time side by side, the others over one another.
struct Buffer {
    std::int64_t size = 0;
    int first = -1, last = -1;  // steps
    std::int64_t place = 0;
};

std::int64_t lay_out(std::vector<Buffer>& buffers) {
    std::vector<Buffer*> order;
    for (Buffer& each : buffers)
        if (each.first >= 0) order.push_back(&each);
    std::sort(order.begin(), order.end(), [](const Buffer* a, const Buffer* b) { return a->size > b->size; });
    std::vector<Buffer*> placed;
    std::int64_t total = 0;
    for (Buffer* each : order) {
        std::int64_t place = 0;
        for (const Buffer* other : placed)  // sorted by place
            if (other->first <= each->last && each->first <= other->last) {
                if (place + each->size <= other->place) break;
                place = std::max(place, other->place + other->size);
            }
        each->place = place;
        total = std::max(total, place + each->size);
        placed.insert(std::upper_bound(placed.begin(), placed.end(), each,
                                       [](const Buffer* a, const Buffer* b) { return a->place < b->place; }),
                      each);
    }
    return total;
}

}  // namespace

class Compiler {
   public:
    Compiler(const FusedNetwork& network, int images, const Kernels& kernels, int threads, Program& program)
        : network_(network), images_(images), kernels_(kernels), threads_(threads), program_(program) {}

    void compile() {
        place_values();
        for (std::size_t i = 0; i < network_.inputs.size(); ++i) add_input(static_cast<int>(i));
        for (const Operation& operation : network_.operations)
            if (elements(network_.shapes[operation.output]) > 0) add(operation);
        for (std::size_t i = 0; i < network_.outputs.size(); ++i) add_output(static_cast<int>(i));
    }

   private:
    // ---- Values ----------------------------------------------------------------------------------------------

    void place_values() {
        for (const Shape& shape : network_.shapes) {
            storages_.push_back(make_storage(shape, images_, kernels_.lanes));
            buffer_of_.push_back(static_cast<int>(buffer_of_.size()));
        }
        buffers_.resize(storages_.size());
        int step = 0;
        for (int value : network_.inputs) touch(value, step);
        for (const Operation& operation : network_.operations) {
            ++step;
            if (operation.kind == Kind::kReshape && aliases(operation)) buffer_of_[operation.output] = buffer_of_[operation.inputs[0]];
            for (int value : operation.inputs) touch(value, step);
            touch(operation.output, step);
            if (operation.kind == Kind::kConstant) touch(operation.output, 0), constants_.push_back(&operation);
        }
        ++step;
        for (int value : network_.outputs) touch(value, step);
        // A constant is written once, when the arena is made.
        for (const Operation* constant : constants_) touch(constant->output, step);
        program_.arena_floats_ = static_cast<std::size_t>(lay_out(buffers_)) + 64;
        for (const Operation* constant : constants_) add_constant(*constant);
    }

    void touch(int value, int step) {
        Buffer& buffer = buffers_[buffer_of_[value]];
        buffer.size = std::max(buffer.size, round_up(storages_[value].size + (images_ == 1 ? 64 : 0), 16));
        buffer.first = buffer.first < 0 ? step : std::min(buffer.first, step);
        buffer.last = std::max(buffer.last, step);
    }

    bool aliases(const Operation& operation) const {
        return dense(storages_[operation.inputs[0]], images_) && dense(storages_[operation.output], images_);
    }

    std::int64_t place(int value) const { return buffers_[buffer_of_[value]].place; }

    void add_constant(const Operation& operation) {
        const Storage& storage = storages_[operation.output];
        std::vector<float> values(static_cast<std::size_t>(storage.size), 0.0f);
        const auto offsets = offsets_of(storage.dims, storage.strides);
        for (std::size_t i = 0; i < offsets.size(); ++i)
            std::fill_n(values.begin() + offsets[i], images_, operation.weight.data[i]);
        program_.constants_.emplace_back(static_cast<std::size_t>(place(operation.output)), std::move(values));
    }

    // ---- Steps -----------------------------------------------------------------------------------------------

    Step& push(const std::string& name, const std::string& operations, const Shape& shape, const std::string& kernel) {
        Step step;
        step.report.name = name, step.report.operations = operations, step.report.shape = shape, step.report.kernel = kernel;
        program_.steps_.push_back(std::move(step));
        return program_.steps_.back();
    }

    Step& push(const Operation& operation, const std::string& kernel) {
        return push(operation.name, operation.fused, network_.shapes[operation.output], kernel);
    }

    void need_scratch(std::size_t floats) { program_.scratch_floats_ = std::max(program_.scratch_floats_, floats); }

    void add_input(int index) {
        const int value = network_.inputs[index];
        const Storage& storage = storages_[value];
        if (storage.size == 0) return;
        const std::int64_t at = place(value), count = elements(storage.dims);
        const int images = images_;
        Step& step = push("input", "input", storage.dims, images == 1 ? "copy" : "interleave");
        if (images == 1) {
            auto segments = segments_of(dense_offsets(count), offsets_of(storage.dims, storage.strides), 1);
            step.run = [=, size = storage.size, gaps = !dense(storage, 1)](const Frame& frame, std::int64_t, std::int64_t, float*) {
                if (gaps) std::fill_n(frame.arena.get() + at, size, 0.0f);
                copy_segments(segments, frame.inputs[index], frame.arena.get() + at);
            };
            return;
        }
        // Stretches without gaps: channels, or pieces of one long row.
        const bool whole = dense(storage, images);
        const std::int64_t pieces = whole ? std::clamp<std::int64_t>(count / 256, 1, 64) : storage.dims[0];
        const std::int64_t stride = whole ? 0 : storage.strides[0];
        step.items = pieces;
        step.run = [=, transpose = kernels_.transpose](const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
            for (std::int64_t piece = begin; piece < end; ++piece) {
                const std::int64_t first = edge(count, piece, pieces, whole), last = edge(count, piece + 1, pieces, whole);
                float* target = frame.arena.get() + at + (whole ? first * images : piece * stride);
                transpose(frame.inputs[index] + first, count, target, images, frame.valid, last - first);
                if (frame.valid < images)
                    for (std::int64_t i = 0; i < last - first; ++i) std::fill(target + i * images + frame.valid, target + (i + 1) * images, 0.0f);
            }
        };
    }

    void add_output(int index) {
        const int value = network_.outputs[index];
        const Storage& storage = storages_[value];
        if (storage.size == 0) return;
        const std::int64_t at = place(value), count = elements(storage.dims);
        const int images = images_;
        Step& step = push("output", "output", storage.dims, images == 1 ? "copy" : "separate");
        if (images == 1) {
            auto segments = segments_of(offsets_of(storage.dims, storage.strides), dense_offsets(count), 1);
            step.run = [=](const Frame& frame, std::int64_t, std::int64_t, float*) {
                copy_segments(segments, frame.arena.get() + at, frame.outputs[index]);
            };
            return;
        }
        const bool whole = dense(storage, images);
        const std::int64_t pieces = whole ? 1 : storage.dims[0], stride = whole ? 0 : storage.strides[0];
        step.items = pieces;
        step.run = [=, transpose = kernels_.transpose](const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
            for (std::int64_t piece = begin; piece < end; ++piece)
                transpose(frame.arena.get() + at + piece * stride, images, frame.outputs[index] + count / pieces * piece, count,
                          count / pieces, frame.valid);
        };
    }

    void add(const Operation& operation) {
        switch (operation.kind) {
            case Kind::kConvolution: return add_convolution(operation);
            case Kind::kLinear: return add_linear(operation);
            case Kind::kAffine: return add_affine(operation);
            case Kind::kUnary: return add_unary(operation);
            case Kind::kBinary: return add_binary(operation);
            case Kind::kPool: return add_pool(operation);
            case Kind::kMean: return add_mean(operation);
            case Kind::kSoftmax: return add_softmax(operation);
            case Kind::kLayerNorm: return add_layer_norm(operation);
            case Kind::kReshape: return aliases(operation) ? void() : add_copy(operation, operation.inputs[0], 0, "copy");
            case Kind::kPermute: return add_permute(operation);
            case Kind::kConcat: return add_concat(operation);
            case Kind::kSlice: return add_slice(operation);
            case Kind::kConstant: return;
        }
    }

    Planes planes(int value) const {
        const Storage& s = storages_[value];
        return {s.dims[0], s.dims[1], s.dims[2], s.strides[0], s.strides[1], s.strides[2], images_};
    }

    void report_weights(StepReport& report, const Operation& operation, std::int64_t places, std::int64_t nonzeros, std::size_t bytes) {
        const std::int64_t all = elements(operation.weight.shape);
        std::int64_t kept = 0;
        for (std::int64_t i = 0; i < all; ++i) kept += operation.weight.data[i] != 0.0f;
        report.density = all == 0 ? 0 : static_cast<double>(kept) / static_cast<double>(all);
        report.multiply_adds = all * places;
        report.nonzero_multiply_adds = nonzeros * places;
        report.bytes = bytes;
    }

    void add_convolution(const Operation& operation) {
        const Planes in = planes(operation.inputs[0]), out = planes(operation.output);
        const auto& weight = operation.weight.shape;
        const ConvolutionShape shape{in.channels, out.channels, weight[2], weight[3], operation.stride[0], operation.stride[1],
                                     operation.padding[0], operation.padding[2], operation.dilation[0], operation.dilation[1], operation.groups};
        if (images_ == 1 && out.height * out.width == 1) return add_single_pixel(operation, shape, in);
        add_tiles(operation, shape, in, out);
    }

    void add_tiles(const Operation& operation, const ConvolutionShape& shape, const Planes& in, const Planes& out) {
        auto convolution = std::make_shared<Convolution>(operation, shape, in, out, kernels_, 1);
        if (convolution->items() < 4 * threads_ && threads_ > 1)
            convolution = std::make_shared<Convolution>(operation, shape, in, out, kernels_, 2 * threads_, convolution->choice());
        need_scratch(convolution->scratch_floats());
        Step& step = push(operation, convolution->describe());
        step.items = convolution->items();
        step.report.predicted_cycles = convolution->choice().cycles;
        report_weights(step.report, operation, out.height * out.width, convolution->nonzeros(), convolution->bytes());
        const std::int64_t input = place(operation.inputs[0]), output = place(operation.output);
        const std::int64_t residual = operation.residual ? place(operation.inputs.back()) : -1;
        step.run = [=](const Frame& frame, std::int64_t begin, std::int64_t end, float* scratch) {
            float* arena = frame.arena.get();
            convolution->run(begin, end, arena + input, residual < 0 ? nullptr : arena + residual, arena + output, scratch);
        };
    }

    // One output pixel: every weight meets one input at most.
    void add_single_pixel(const Operation& operation, const ConvolutionShape& s, const Planes& in) {
        std::vector<std::int32_t> gather;
        std::vector<std::pair<std::int64_t, std::int64_t>> column;  // channel, tap
        for (std::int64_t c = 0; c < in.channels; ++c)
            for (std::int64_t ky = 0; ky < s.kernel_y; ++ky)
                for (std::int64_t kx = 0; kx < s.kernel_x; ++kx) {
                    const std::int64_t y = ky * s.dilation_y - s.top, x = kx * s.dilation_x - s.left;
                    if (y < 0 || y >= in.height || x < 0 || x >= in.width) continue;
                    gather.push_back(static_cast<std::int32_t>(c * in.channel + y * in.row + x * in.column));
                    column.emplace_back(c, ky * s.kernel_x + kx);
                }
        bool contiguous = true;
        for (std::size_t i = 0; i < gather.size(); ++i) contiguous = contiguous && gather[i] == static_cast<std::int32_t>(i);
        const std::int64_t per_group = s.channels / s.groups, outputs_per_group = s.outputs / s.groups, taps = s.kernel_y * s.kernel_x;
        const auto weight = [&](std::int64_t row, std::int64_t at) {
            const auto [channel, tap] = column[at];
            const std::int64_t within = channel - row / outputs_per_group * per_group;
            if (within < 0 || within >= per_group) return 0.0f;
            const float value = operation.weight.data[(row * per_group + within) * taps + tap];
            return operation.scale.empty() ? value : value * operation.scale[row];
        };
        const std::int64_t columns = static_cast<std::int64_t>(column.size());
        add_vector(operation, s.outputs, columns, weight, contiguous ? std::vector<std::int32_t>{} : gather, {0}, {0});
    }

    void add_vector(const Operation& operation, std::int64_t rows, std::int64_t columns,
                    const std::function<float(std::int64_t, std::int64_t)>& weight, std::vector<std::int32_t> gather,
                    const Offsets& sources, const Offsets& targets) {
        const std::int64_t repeats = static_cast<std::int64_t>(sources.size());
        const auto product = std::make_shared<VectorProduct>(rows, columns, weight, std::move(gather), operation.bias, operation.clamp, kernels_,
                                                             repeats < threads_ ? threads_ : 1);
        need_scratch(product->scratch_floats());
        Step& step = push(operation, product->describe());
        step.items = repeats * product->items();
        step.report.predicted_cycles = product->cycles() * static_cast<double>(repeats);
        report_weights(step.report, operation, repeats, product->nonzeros(), product->bytes());
        const std::int64_t input = place(operation.inputs[0]), output = place(operation.output);
        const std::int64_t residual = operation.residual ? place(operation.inputs.back()) : -1;
        step.run = [=](const Frame& frame, std::int64_t begin, std::int64_t end, float* scratch) {
            const int items = product->items();
            for (std::int64_t item = begin; item < end; ++item) {
                const std::int64_t row = item / items;
                float* arena = frame.arena.get();
                product->run(item % items, item % items + 1, arena + input + sources[row],
                             residual < 0 ? nullptr : arena + residual + targets[row], arena + output + targets[row], scratch);
            }
        };
    }

    void add_linear(const Operation& operation) {
        const std::int64_t outputs = operation.weight.shape[0], inputs = operation.weight.shape[1];
        const std::int64_t rows = elements(network_.shapes[operation.output]) / outputs;
        if (images_ == 1) {
            const auto weight = [&](std::int64_t row, std::int64_t column) {
                const float value = operation.weight.data[row * inputs + column];
                return operation.scale.empty() ? value : value * operation.scale[row];
            };
            const auto starts = [&](int value) {  // of every row of features
                const Storage& storage = storages_[value];
                return offsets_of(Shape(storage.dims.begin(), storage.dims.end() - 1), storage.strides);
            };
            return add_vector(operation, outputs, inputs, weight, {}, starts(operation.inputs[0]), starts(operation.output));
        }
        const auto flat = [&](std::int64_t channels) {
            return Planes{channels, 1, rows, images_, rows * channels * images_, channels * images_, images_};
        };
        add_tiles(operation, {inputs, outputs, 1, 1, 1, 1, 0, 0, 1, 1, 1}, flat(inputs), flat(outputs));
    }

    void add_affine(const Operation& operation) {
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

    // Splits `size` floats into pieces for several threads, on cache lines.
    static std::int64_t pieces(std::int64_t size) { return std::clamp<std::int64_t>(size / 4096, 1, 64); }
    static std::int64_t edge(std::int64_t size, std::int64_t piece, std::int64_t all, bool lines = true) {
        return piece == all ? size : lines ? size * piece / all / 16 * 16 : size * piece / all;
    }

    void add_unary(const Operation& operation) {
        const std::int64_t from = place(operation.inputs[0]), to = place(operation.output), size = storages_[operation.output].size;
        Step& step = push(operation, "loop");
        step.items = pieces(size);
        step.run = [=, all = step.items, unary = kernels_.unary, kind = operation.unary, slope = operation.slope](
                       const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
            const std::int64_t first = edge(size, begin, all), last = edge(size, end, all);
            unary(kind, slope, frame.arena.get() + from + first, frame.arena.get() + to + first, last - first);
        };
    }

    void add_binary(const Operation& operation) {
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
        auto lefts = offsets_of(target.dims, broadcast(left, target.dims)), rights = offsets_of(target.dims, broadcast(right, target.dims));
        auto targets = offsets_of(target.dims, target.strides);
        step.run = [=, images = images_](const Frame& frame, std::int64_t, std::int64_t, float*) {
            float* arena = frame.arena.get();
            combine(kind, clamp, arena + a, lefts, arena + b, rights, arena + to, targets, images);
        };
    }

    void add_pool(const Operation& operation) {
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
        step.run = [=, pool = kernels_.pool](const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
            PoolRun part = run;
            part.source = frame.arena.get() + from + begin * run.source_channel;
            part.target = frame.arena.get() + to + begin * run.target_channel;
            part.channels = static_cast<int>(end - begin);
            pool(part);
        };
    }

    // A mean over windows: those of an adaptive pooling, or whole axes.
    void add_mean(const Operation& operation) {
        const Storage &source = storages_[operation.inputs[0]], &target = storages_[operation.output];
        const std::int64_t from = place(operation.inputs[0]), to = place(operation.output);
        auto windows = operation.axes.empty() ? adaptive_windows(source, target) : axis_windows(source, target, operation.axes);
        Step& step = push(operation, "loop");
        step.items = std::clamp<std::int64_t>(static_cast<std::int64_t>(windows.size()) / 16, 1, 64);
        step.run = [=, images = images_, all = step.items](const Frame& frame, std::int64_t begin, std::int64_t end, float*) {
            const std::int64_t count = static_cast<std::int64_t>(windows.size());
            average_windows(windows, count * begin / all, count * end / all, frame.arena.get() + from, frame.arena.get() + to, images);
        };
    }

    void add_softmax(const Operation& operation) {
        const Storage& storage = storages_[operation.output];
        const std::int64_t from = place(operation.inputs[0]), to = place(operation.output), axis = operation.axes[0];
        const auto lines = lines_of(storage, axis, axis + 1);
        Step& step = push(operation, "loop");
        step.run = [=, images = images_](const Frame& frame, std::int64_t, std::int64_t, float*) {
            softmax_lines(lines, frame.arena.get() + from, frame.arena.get() + to, images);
        };
    }

    void add_layer_norm(const Operation& operation) {
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

    void add_segments(const Operation& operation, std::vector<std::pair<std::int64_t, std::vector<Segment>>> parts) {
        const std::int64_t to = place(operation.output);
        Step& step = push(operation, "copy");
        step.run = [=](const Frame& frame, std::int64_t, std::int64_t, float*) {
            for (const auto& [from, segments] : parts) copy_segments(segments, frame.arena.get() + from, frame.arena.get() + to);
        };
    }

    void add_copy(const Operation& operation, int value, std::int64_t, const char*) {
        const Storage &source = storages_[value], &target = storages_[operation.output];
        add_segments(operation, {{place(value), segments_of(offsets_of(source.dims, source.strides), offsets_of(target.dims, target.strides), images_)}});
    }

    void add_permute(const Operation& operation) {
        const Storage &source = storages_[operation.inputs[0]], &target = storages_[operation.output];
        std::vector<std::int64_t> strides;
        for (std::int64_t axis : operation.axes) strides.push_back(source.strides[axis]);
        add_segments(operation, {{place(operation.inputs[0]), segments_of(offsets_of(target.dims, strides), offsets_of(target.dims, target.strides), images_)}});
    }

    void add_slice(const Operation& operation) {
        const Storage &source = storages_[operation.inputs[0]], &target = storages_[operation.output];
        const std::int64_t skipped = operation.start * source.strides[operation.axes[0]];
        add_segments(operation, {{place(operation.inputs[0]) + skipped, segments_of(offsets_of(target.dims, source.strides), offsets_of(target.dims, target.strides), images_)}});
    }

    void add_concat(const Operation& operation) {
        const Storage& target = storages_[operation.output];
        std::vector<std::pair<std::int64_t, std::vector<Segment>>> parts;
        std::int64_t start = 0;
        for (int value : operation.inputs) {
            const Storage& source = storages_[value];
            auto targets = offsets_of(source.dims, target.strides);
            for (auto& offset : targets) offset += start * target.strides[operation.axes[0]];
            parts.emplace_back(place(value), segments_of(offsets_of(source.dims, source.strides), targets, images_));
            start += source.dims[operation.axes[0]];
        }
        add_segments(operation, std::move(parts));
    }

    const FusedNetwork& network_;
    const int images_;
    const Kernels& kernels_;
    const int threads_;
    Program& program_;
    std::vector<Storage> storages_;
    std::vector<int> buffer_of_;
    std::vector<Buffer> buffers_;
    std::vector<const Operation*> constants_;
};

namespace {

// Bytes that do not fit into L2 have to come from and go to somewhere further.
double traffic(double bytes) { return 0.03 * bytes + 0.5 * std::max(0.0, bytes - 1e6); }

double predict(const FusedNetwork& network, const Operation& operation, int images, const Kernels& kernels) {
    const auto storage = [&](int value) { return make_storage(network.shapes[value], images, kernels.lanes); };
    double bytes = 4.0 * static_cast<double>(storage(operation.output).size);
    for (int value : operation.inputs) bytes += 4.0 * static_cast<double>(storage(value).size);
    if (operation.kind == Kind::kConstant || operation.kind == Kind::kReshape) return 0;
    const bool convolution = operation.kind == Kind::kConvolution, linear = operation.kind == Kind::kLinear;
    if (!convolution && !linear) return traffic(bytes) + bytes * 0.05;
    if (elements(network.shapes[operation.output]) == 0) return 0;
    const auto planes = [&](int value) {
        const Storage s = storage(value);
        return Planes{s.dims[0], s.dims[1], s.dims[2], s.strides[0], s.strides[1], s.strides[2], images};
    };
    const std::int64_t outputs = operation.weight.shape[0];
    const std::int64_t rows = elements(network.shapes[operation.output]) / outputs;
    if (images == 1 && (linear || rows == 1)) {
        std::int64_t nonzeros = 0;
        const std::int64_t all = elements(operation.weight.shape);
        for (std::int64_t i = 0; i < all; ++i) nonzeros += operation.weight.data[i] != 0.0f;
        const double dense = static_cast<double>(all) * (kernels.lanes >= 16 ? 0.1 : 0.2), sparse = static_cast<double>(nonzeros) * (kernels.lanes >= 16 ? 0.45 : 1.2);
        return static_cast<double>(rows) * std::min(dense, sparse) + traffic(bytes);
    }
    ConvolutionShape shape{operation.weight.shape[1], outputs, 1, 1, 1, 1, 0, 0, 1, 1, 1};
    Planes in, out;
    if (convolution) {
        in = planes(operation.inputs[0]), out = planes(operation.output);
        const auto& weight = operation.weight.shape;
        shape = {in.channels, out.channels, weight[2], weight[3], operation.stride[0], operation.stride[1],
                 operation.padding[0], operation.padding[2], operation.dilation[0], operation.dilation[1], operation.groups};
    } else {
        in = {shape.channels, 1, rows, images, rows * shape.channels * images, shape.channels * images, images};
        out = {outputs, 1, rows, images, rows * outputs * images, outputs * images, images};
    }
    const auto choices = Convolution::choices(operation, shape, in, out, kernels);
    return (choices.empty() ? 1e18 : choices.front().cycles) + traffic(bytes);
}

}  // namespace

std::vector<double> predict_cycles(const FusedNetwork& network, int images, const Kernels& kernels) {
    std::vector<double> cycles;
    for (const Operation& operation : network.operations) cycles.push_back(predict(network, operation, images, kernels));
    return cycles;
}

Program::Program(const FusedNetwork& network, int images, const Kernels& kernels, int threads) : images_(images) {
    Compiler(network, images, kernels, threads, *this).compile();
}

Frame Program::make_frame(int threads) const {
    Frame frame;
    frame.arena = make_floats(arena_floats_);
    for (int thread = 0; thread < threads; ++thread) frame.scratch.push_back(make_floats(scratch_floats_ + 64));
    for (const auto& [at, values] : constants_) std::copy(values.begin(), values.end(), frame.arena.get() + at);
    return frame;
}

void Program::run(const Frame& frame) const {
    for (const Step& step : steps_) step.run(frame, 0, step.items, frame.scratch[0].get());
}

void Program::run_shared(const Frame& frame, int threads) const {
    Barrier barrier(threads);
    run_together(threads, [&](int thread, bool together) {
        if (!together) {
            if (thread == 0) run(frame);
            return;
        }
        for (const Step& step : steps_) {
            const std::int64_t begin = step.items * thread / threads, end = step.items * (thread + 1) / threads;
            if (begin < end) step.run(frame, begin, end, frame.scratch[thread].get());
            barrier.wait();
        }
    });
}

std::vector<double> Program::time_steps(Frame& frame, int rounds) const {
    std::vector<double> best(steps_.size(), 1e30);
    for (int round = 0; round < rounds; ++round)
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            const auto start = std::chrono::steady_clock::now();
            steps_[i].run(frame, 0, steps_[i].items, frame.scratch[0].get());
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            best[i] = std::min(best[i], took.count());
        }
    return best;
}

double Program::predicted_cycles() const {
    double sum = 0;
    for (const Step& step : steps_) sum += step.report.predicted_cycles;
    return sum;
}

}  // namespace secateur
