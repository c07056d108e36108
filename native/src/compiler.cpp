#include "compiler.hpp"

#include <algorithm>

#include "lowerings/crossing.hpp"
#include "lowerings/lowering.hpp"
#include "operations.hpp"

namespace secateur {
namespace {

// Where piece begins of `size` words in `all` pieces, on cache lines if `lines`.
std::int64_t edge(std::int64_t size, std::int64_t piece, std::int64_t all, bool lines) {
    return piece == all ? size : lines ? size * piece / all / 16 * 16 : size * piece / all;
}

Setting setting_of(const FoldedNetwork& folded, int images, const Kernels& kernels, const CostModel& costs) {
    Setting setting = plain_setting(folded.network, images, kernels, costs);
    for (std::size_t value = 0; value < setting.storages.size(); ++value)
        if (folded.folded[value])
            setting.storages[value] = make_folded(folded.network.shapes[value], kernels.lanes, folded.bordered[value]);
    return setting;
}

}  // namespace

Compiler::Compiler(const FoldedNetwork& folded, int images, const Kernels& kernels, const CostModel& costs, int threads,
                   Program& program)
    : folded_(folded), network_(folded.network), setting_(setting_of(folded, images, kernels, costs)),
      threads_(threads), program_(program), placement_(secateur::place(setting_)) {}

void Compiler::compile() {
    place_values();
    for (std::size_t i = 0; i < network_.inputs.size(); ++i)
        if (const Operation* quantisation = quantisation_of(static_cast<int>(i)))
            add_quantised_input(static_cast<int>(i), *quantisation);
        else add_input(static_cast<int>(i));
    for (const Operation& operation : network_.operations) {
        if (elements(network_.shapes[operation.output]) == 0) continue;
        if (!quantises_input(operation) && !renames(setting_, operation)) operation.lowering->compile(*this, operation);
        if (fills(operation.output) && !operation.lowering->fills_border) add_border(operation.output);
    }
    for (std::size_t i = 0; i < network_.outputs.size(); ++i) add_output(static_cast<int>(i));
    program_.shelf_ = shelf_.settle();
}

void Compiler::place_values() {
    buffers_.resize(network_.shapes.size());
    int step = 0;
    for (std::size_t i = 0; i < network_.inputs.size(); ++i)
        if (const Operation* quantisation = quantisation_of(static_cast<int>(i))) touch(quantisation->output, step);
        else touch(network_.inputs[i], step);
    for (const Operation& operation : network_.operations) {
        ++step;
        if (quantises_input(operation)) continue;
        for (int value : operation.inputs) touch(value, step);
        touch(operation.output, operation.lowering->constant ? 0 : step);
    }
    ++step;
    for (int value : network_.outputs) touch(value, step);
    for (const Operation& operation : network_.operations)
        if (operation.lowering->constant) touch(operation.output, step);
    program_.arena_words_ = static_cast<std::size_t>(lay_out(buffers_)) + kOverread;
}

const Operation* Compiler::quantisation_of(int index) const {
    const int value = network_.inputs[index];
    const Operation* found = nullptr;
    for (int output : network_.outputs)
        if (output == value) return nullptr;
    for (const Operation& operation : network_.operations)
        if (std::find(operation.inputs.begin(), operation.inputs.end(), value) != operation.inputs.end()) {
            if (found != nullptr || !std::holds_alternative<kind::Quantise>(operation.kind)) return nullptr;
            found = &operation;
        }
    return found != nullptr && !setting_.storages[found->output].folded ? found : nullptr;
}

bool Compiler::quantises_input(const Operation& operation) const {
    if (!std::holds_alternative<kind::Quantise>(operation.kind)) return false;
    for (std::size_t i = 0; i < network_.inputs.size(); ++i)
        if (network_.inputs[i] == operation.inputs[0]) return quantisation_of(static_cast<int>(i)) == &operation;
    return false;
}

// Image by image into words without gaps, which are then copied or interleaved: a quarter of what the floats are.
void Compiler::add_quantised_input(int index, const Operation& operation) {
    const auto& how = std::get<kind::Quantise>(operation.kind);
    const Shape& whole = network_.whole[operation.output];
    const Storage& storage = setting_.storages[operation.output];
    if (storage.size == 0) return;
    const int images = setting_.images;
    const Storage dense_floats = make_dense(whole), dense_words = make_dense(storage.dims);
    const Crossing crossing = crossing_of(whole, dense_floats, dense_words, 1);
    const std::int64_t at = place(operation.output), numbers = elements(whole), words = elements(storage.dims);
    const Copy copy(storage.dims, dense_words.strides, storage.strides, images);
    const bool interleaved = images > 1;
    constexpr std::int64_t kTogether = 16;  // images
    need_scratch(static_cast<std::size_t>(words * (interleaved ? kTogether : 1)) + kOverread);
    Step& step = push("input", "input+quantise", storage.dims, interleaved ? "interleave" : "copy");
    step.items = interleaved ? images / kTogether : 1;
    step.run = [=, bytes = setting_.kernels.bytes, kernels = &setting_.kernels, dims = storage.dims,
                strides = storage.strides](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
        const Word* given = frame.inputs[index];
        if (!interleaved) {
            quantise_groups(*bytes, crossing, how, as_floats(given), scratch);
            copy.run(scratch, frame.words(at), *kernels);
            return;
        }
        for (std::int64_t first = begin * kTogether; first < end * kTogether; first += kTogether) {
            const std::int64_t some = std::clamp<std::int64_t>(frame.valid - first, 0, kTogether);
            for (std::int64_t image = 0; image < some; ++image)
                quantise_groups(*bytes, crossing, how, as_floats(given) + (first + image) * numbers,
                                scratch + image * words);
            const std::int64_t planes = dims.size() > 1 ? dims[0] : 1, length = words / planes;
            for (std::int64_t plane = 0; plane < planes; ++plane) {
                Word* target = frame.words(at + plane * (dims.size() > 1 ? strides[0] : 0)) + first;
                if (some > 0) kernels->transpose(scratch + plane * length, words, target, images, some, length);
                for (std::int64_t i = 0; some < kTogether && i < length; ++i)
                    std::fill(target + i * images + some, target + i * images + kTogether, Word{0});
            }
        }
    };
}

void Compiler::touch(int value, int step) {
    Buffer& buffer = buffers_[placement_.buffer[value]];
    buffer.size = std::max(
        buffer.size,
        round_up(placement_.shift[value] + setting_.storages[value].size + (setting_.images == 1 ? kOverread : 0), 16));
    buffer.first = buffer.first < 0 ? step : std::min(buffer.first, step);
    buffer.last = std::max(buffer.last, step);
}

Step& Compiler::push(const std::string& name, const std::string& operations, const Shape& shape,
                     const std::string& kernel) {
    Step step;
    step.report.name = name, step.report.operations = operations, step.report.shape = shape,
    step.report.kernel = kernel;
    program_.steps_.push_back(std::move(step));
    return program_.steps_.back();
}

Step& Compiler::push(const Operation& operation, const std::string& kernel) {
    return push(operation.name, operation.fused, network_.shapes[operation.output], kernel);
}

void Compiler::add_input(int index) {
    const int value = network_.inputs[index];
    const Storage& storage = setting_.storages[value];
    if (storage.size == 0) return;
    const std::int64_t at = place(value), count = elements(storage.dims);
    const int images = setting_.images;
    Step& step = push("input", "input", storage.dims, images == 1 ? "copy" : "interleave");
    if (images == 1) {
        Copy copy(storage.dims, dense_strides(storage.dims, 1), storage.strides, 1);
        step.run = [=, size = storage.size, gaps = !dense(storage, 1), kernels = &setting_.kernels](
                       const Frame& frame, std::int64_t, std::int64_t, Word*) {
            if (gaps) std::fill_n(frame.words(at), size, Word{0});
            copy.run(frame.inputs[index], frame.words(at), *kernels);
        };
        return;
    }
    // Stretches without gaps: channels, or pieces of one long row.
    const bool whole = dense(storage, images);
    const std::int64_t pieces = whole ? std::clamp<std::int64_t>(count / 256, 1, 64) : storage.dims[0];
    const std::int64_t stride = whole ? 0 : storage.strides[0];
    step.items = pieces;
    step.run = [=, transpose = setting_.kernels.transpose](const Frame& frame, std::int64_t begin, std::int64_t end,
                                                           Word*) {
        for (std::int64_t piece = begin; piece < end; ++piece) {
            const std::int64_t first = edge(count, piece, pieces, whole), last = edge(count, piece + 1, pieces, whole);
            Word* target = frame.words(at + (whole ? first * images : piece * stride));
            transpose(frame.inputs[index] + first, count, target, images, frame.valid, last - first);
            if (frame.valid < images)
                for (std::int64_t i = 0; i < last - first; ++i)
                    std::fill(target + i * images + frame.valid, target + (i + 1) * images, Word{0});
        }
    };
}

void Compiler::add_output(int index) {
    const int value = network_.outputs[index];
    const Storage& storage = setting_.storages[value];
    if (storage.size == 0) return;
    const std::int64_t at = place(value), count = elements(storage.dims);
    const int images = setting_.images;
    Step& step = push("output", "output", storage.dims, images == 1 ? "copy" : "separate");
    if (images == 1) {
        Copy copy(storage.dims, storage.strides, dense_strides(storage.dims, 1), 1);
        step.run = [=, kernels = &setting_.kernels](const Frame& frame, std::int64_t, std::int64_t, Word*) {
            copy.run(frame.words(at), frame.outputs[index], *kernels);
        };
        return;
    }
    const bool whole = dense(storage, images);
    const std::int64_t pieces = whole ? 1 : storage.dims[0], stride = whole ? 0 : storage.strides[0];
    step.items = pieces;
    step.run = [=, transpose = setting_.kernels.transpose](const Frame& frame, std::int64_t begin, std::int64_t end,
                                                           Word*) {
        for (std::int64_t piece = begin; piece < end; ++piece)
            transpose(frame.words(at + piece * stride), images, frame.outputs[index] + count / pieces * piece, count,
                      count / pieces, frame.valid);
    };
}

void Compiler::add_border(int value) {
    const Storage& storage = setting_.storages[value];
    const std::int64_t at = place(value) + storage.origin, plane = storage.strides[0];
    Step& step = push("border", "border", storage.dims, "copy");
    step.items = storage.dims[0];
    step.run = [=, border = border_of(storage, setting_.kernels.lanes, network_.fills[value]),
                fill = setting_.kernels.fill_border](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        fill({frame.words(at + begin * plane), plane, static_cast<int>(end - begin), border.moves.data(),
              static_cast<int>(border.moves.size()), border.lanes.data(), border.fill});
    };
}

}  // namespace secateur
