#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "operations.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

using Parts = std::vector<std::pair<std::int64_t, Copy>>;  // places, and what is copied from there

void add_copies(Compiler& compiler, const Operation& operation, Parts parts) {
    const std::int64_t to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "copy");
    step.run = [to, parts = std::move(parts)](const Frame& frame, std::int64_t, std::int64_t, Word*) {
        for (const auto& [from, copy] : parts) copy.run(frame.words(from), frame.words(to));
    };
}

std::optional<Kind> read_reshape(const Node& node) {
    if (node.op != "reshape") return {};
    return kind::Reshape{};
}

void compile_reshape(Compiler& compiler, const Operation& operation) {
    if (compiler.renames(operation)) return;
    const Setting& setting = compiler.setting();
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "copy");
    step.run = [from, to,
                segments = segments_between(setting.input(operation), setting.output(operation), setting.images)](
                   const Frame& frame, std::int64_t, std::int64_t, Word*) {
        copy_segments(segments, frame.words(from), frame.words(to));
    };
}

std::optional<Kind> read_permute(const Node& node) {
    if (node.op != "permute") return {};
    return kind::Permute{axes_of(node, "axes")};
}

void compile_permute(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &source = setting.input(operation), &target = setting.output(operation);
    std::vector<std::int64_t> strides;
    for (std::int64_t axis : std::get<kind::Permute>(operation.kind).axes) strides.push_back(source.strides[axis]);
    add_copies(compiler, operation,
               {{compiler.place(operation.inputs[0]), Copy(target.dims, strides, target.strides, setting.images)}});
}

std::optional<Kind> read_slice(const Node& node) {
    if (node.op != "slice") return {};
    return kind::Slice{axes_of(node, "axis")[0], integer_of(node, "start")};
}

void compile_slice(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &source = setting.input(operation), &target = setting.output(operation);
    const auto [axis, start] = std::get<kind::Slice>(operation.kind);
    add_copies(compiler, operation,
               {{compiler.place(operation.inputs[0]) + start * source.strides[axis],
                 Copy(target.dims, source.strides, target.strides, setting.images)}});
}

std::optional<Kind> read_concat(const Node& node) {
    if (node.op != "concat") return {};
    return kind::Concat{axes_of(node, "axis")[0]};
}

void compile_concat(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage& target = setting.output(operation);
    const std::int64_t axis = std::get<kind::Concat>(operation.kind).axis;
    Parts parts;
    std::int64_t start = 0;
    for (int value : operation.inputs) {
        const Storage& source = setting.storages[value];
        if (elements(source.dims) > 0)
            parts.emplace_back(compiler.place(value), Copy(source.dims, source.strides, target.strides, setting.images,
                                                           start * target.strides[axis]));
        start += source.dims[axis];
    }
    add_copies(compiler, operation, std::move(parts));
}

std::optional<Kind> read_constant(const Node& node) {
    if (node.op != "constant") return {};
    return kind::Constant{node.weights.at("value")};
}

void compile_constant(Compiler& compiler, const Operation& operation) {
    const Storage& storage = compiler.setting().output(operation);
    const Array& array = std::get<kind::Constant>(operation.kind).values;
    const Word* values = as_words(array.data);
    std::vector<Word> words(static_cast<std::size_t>(storage.size), Word{0});
    const auto offsets = offsets_of(storage.dims, storage.strides);
    for (std::size_t i = 0; i < offsets.size(); ++i)
        std::fill_n(words.begin() + offsets[i], compiler.setting().images, values[i]);
    compiler.keep(operation.output, std::move(words));
}

void compile_conversion(Compiler& compiler, const Operation& operation) {
    const Storage &source = compiler.setting().input(operation), &target = compiler.setting().output(operation);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "copy");
    step.items = source.dims[0];
    step.run = [=, conversion = Conversion(source, target)](const Frame& frame, std::int64_t begin, std::int64_t end,
                                                            Word*) {
        conversion.run(begin, end, frame.words(from), frame.words(to));
    };
}

}  // namespace

const Lowering lowerings::reshape = {
    .read = read_reshape, .cycles = nothing, .compile = compile_reshape, .renames = true};
const Lowering lowerings::permute = {.read = read_permute, .cycles = streaming, .compile = compile_permute};
const Lowering lowerings::slice = {.read = read_slice, .cycles = streaming, .compile = compile_slice};
const Lowering lowerings::concat = {.read = read_concat, .cycles = streaming, .compile = compile_concat};
const Lowering lowerings::constant = {
    .read = read_constant, .cycles = nothing, .compile = compile_constant, .constant = true};
// Made by folding.cpp; its cost is counted there.
const Lowering lowerings::conversion = {.cycles = nothing, .compile = compile_conversion};

}  // namespace secateur
