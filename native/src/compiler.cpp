#include "compiler.hpp"

#include <algorithm>

namespace secateur {
namespace {

// Where piece begins of `size` floats in `all` pieces, on cache lines if `lines`.
std::int64_t edge(std::int64_t size, std::int64_t piece, std::int64_t all, bool lines) {
    return piece == all ? size : lines ? size * piece / all / 16 * 16 : size * piece / all;
}

}  // namespace

void Compiler::compile() {
    place_values();
    for (std::size_t i = 0; i < network_.inputs.size(); ++i) add_input(static_cast<int>(i));
    for (const Operation& operation : network_.operations) {
        if (elements(network_.shapes[operation.output]) == 0) continue;
        add(operation);
        if (folded_.filled[operation.output] && operation.kind != Kind::kConvolution) add_border(operation.output);
    }
    for (std::size_t i = 0; i < network_.outputs.size(); ++i) add_output(static_cast<int>(i));
    program_.shelf_ = shelf_.settle();
}

void Compiler::place_values() {
    for (std::size_t i = 0; i < network_.shapes.size(); ++i) {
        const Shape& shape = network_.shapes[i];
        storages_.push_back(folded_.folded[i] ? make_folded(shape, kernels_.lanes, folded_.bordered[i]) : make_storage(shape, images_, kernels_.lanes));
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
    program_.arena_floats_ = static_cast<std::size_t>(lay_out(buffers_)) + kOverread;
    for (const Operation* constant : constants_) add_constant(*constant);
}

void Compiler::touch(int value, int step) {
    Buffer& buffer = buffers_[buffer_of_[value]];
    buffer.size = std::max(buffer.size, round_up(storages_[value].size + (images_ == 1 ? kOverread : 0), 16));
    buffer.first = buffer.first < 0 ? step : std::min(buffer.first, step);
    buffer.last = std::max(buffer.last, step);
}

void Compiler::add_constant(const Operation& operation) {
    const Storage& storage = storages_[operation.output];
    std::vector<float> values(static_cast<std::size_t>(storage.size), 0.0f);
    const auto offsets = offsets_of(storage.dims, storage.strides);
    for (std::size_t i = 0; i < offsets.size(); ++i)
        std::fill_n(values.begin() + offsets[i], images_, operation.weight.data[i]);
    program_.constants_.emplace_back(static_cast<std::size_t>(place(operation.output)), std::move(values));
}

Step& Compiler::push(const std::string& name, const std::string& operations, const Shape& shape, const std::string& kernel) {
    Step step;
    step.report.name = name, step.report.operations = operations, step.report.shape = shape, step.report.kernel = kernel;
    program_.steps_.push_back(std::move(step));
    return program_.steps_.back();
}

Step& Compiler::push(const Operation& operation, const std::string& kernel) {
    return push(operation.name, operation.fused, network_.shapes[operation.output], kernel);
}

void Compiler::add_input(int index) {
    const int value = network_.inputs[index];
    const Storage& storage = storages_[value];
    if (storage.size == 0) return;
    const std::int64_t at = place(value), count = elements(storage.dims);
    const int images = images_;
    Step& step = push("input", "input", storage.dims, images == 1 ? "copy" : "interleave");
    if (images == 1) {
        Copy copy(storage.dims, dense_strides(storage.dims, 1), storage.strides, 1);
        step.run = [=, size = storage.size, gaps = !dense(storage, 1)](const Frame& frame, std::int64_t, std::int64_t, float*) {
            if (gaps) std::fill_n(frame.arena.get() + at, size, 0.0f);
            copy.run(frame.inputs[index], frame.arena.get() + at);
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

void Compiler::add_output(int index) {
    const int value = network_.outputs[index];
    const Storage& storage = storages_[value];
    if (storage.size == 0) return;
    const std::int64_t at = place(value), count = elements(storage.dims);
    const int images = images_;
    Step& step = push("output", "output", storage.dims, images == 1 ? "copy" : "separate");
    if (images == 1) {
        Copy copy(storage.dims, storage.strides, dense_strides(storage.dims, 1), 1);
        step.run = [=](const Frame& frame, std::int64_t, std::int64_t, float*) {
            copy.run(frame.arena.get() + at, frame.outputs[index]);
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

void Compiler::add(const Operation& operation) {
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
        case Kind::kReshape: return add_reshape(operation);
        case Kind::kPermute: return add_permute(operation);
        case Kind::kConcat: return add_concat(operation);
        case Kind::kSlice: return add_slice(operation);
        case Kind::kConstant: return;
        case Kind::kFold:
        case Kind::kUnfold: return add_conversion(operation);
    }
}

}  // namespace secateur
