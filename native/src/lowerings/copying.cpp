#include <algorithm>

#include "arranging.hpp"
#include "byte_operations.hpp"
#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "operations.hpp"
#include "placement.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

using Parts = std::vector<std::pair<std::int64_t, Copy>>;  // places, and what is copied from there

void add_copies(Compiler& compiler, const Operation& operation, Parts parts) {
    const std::int64_t to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "copy");
    step.run = [to, parts = std::move(parts), kernels = &compiler.setting().kernels](const Frame& frame, std::int64_t,
                                                                                     std::int64_t, Word*) {
        for (const auto& [from, copy] : parts) copy.run(frame.words(from), frame.words(to), *kernels);
    };
}

bool holds_bytes(const Compiler& compiler, int value) {
    return compiler.setting().network.elements[value] == Element::kUint8;
}

// Where the elements of a value lie in the arena, row-major.
std::vector<BytePlace> places_of(const Compiler& compiler, int value) {
    auto places = byte_places(compiler.setting().network.whole[value], compiler.setting().storages[value]);
    for (BytePlace& place : places) place.word += compiler.place(value);
    return places;
}

// Byte by byte: element i of the output is sources[i].
void add_byte_moves(Compiler& compiler, const Operation& operation, const std::vector<BytePlace>& sources) {
    Step& step = compiler.push(operation, "copy of bytes");
    ByteMoves moves(places_of(compiler, operation.output), sources);
    step.items = moves.items();
    step.run = [moves = std::move(moves), images = compiler.setting().images](const Frame& frame, std::int64_t begin,
                                                                              std::int64_t end, Word*) {
        moves.run(begin, end, frame.words(0), images);
    };
}

// The elements of the first input that become those of the output: at `start`, in steps of `strides` along its axes.
void add_strided_moves(Compiler& compiler, const Operation& operation, std::int64_t start,
                       const std::vector<std::int64_t>& strides) {
    const auto places = places_of(compiler, operation.inputs[0]);
    std::vector<BytePlace> sources;
    for (std::int64_t at : offsets_of(compiler.setting().network.whole[operation.output], strides))
        sources.push_back(places[static_cast<std::size_t>(start + at)]);
    add_byte_moves(compiler, operation, sources);
}

std::optional<Kind> read_reshape(const Node& node) {
    if (node.op != "reshape") return {};
    return kind::Reshape{};
}

void compile_reshape(Compiler& compiler, const Operation& operation) {
    if (holds_bytes(compiler, operation.output) && !keeps_words(compiler.setting().network, operation))
        return add_byte_moves(compiler, operation, places_of(compiler, operation.inputs[0]));
    const Setting& setting = compiler.setting();
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    if (setting.images == 1)
        if (const auto strides = strides_as(setting.output(operation), setting.input(operation).dims))
            return add_copies(
                compiler, operation,
                {{from, Copy(setting.input(operation).dims, setting.input(operation).strides, *strides, 1)}});
    Step& step = compiler.push(operation, "copy");
    step.run = [from, to,
                segments = segments_between(setting.input(operation), setting.output(operation), setting.images)](
                   const Frame& frame, std::int64_t, std::int64_t, Word*) {
        copy_segments(segments, frame.words(from), frame.words(to));
    };
}

// In the same order of axes, if features are outermost and remain features.
void arrange_reshape(Arrangement& arrangement, Operation& operation) {
    const int from = operation.inputs[0];
    const Shape dims = arrangement.dims(from), wanted = arrangement.dims(operation.output);
    if (arrangement.holds_bytes(from) && !keeps_words(arrangement.network(), operation))
        return arrangement.bring_plainly(operation, 0);
    const Storage storage = arrangement.storage(from);
    if (auto strides = strides_as(storage, wanted)) return arrangement.view(operation, std::move(*strides), 0);
    const bool planes = dims.size() > 1 && wanted.size() > 1 && dims.back() == wanted.back() &&
                        storage.strides.back() == *std::max_element(storage.strides.begin(), storage.strides.end());
    if (planes) arrangement.put(operation, feature_planes(wanted, arrangement.lanes()));
}

std::optional<Kind> read_permute(const Node& node) {
    if (node.op != "permute") return {};
    return kind::Permute{axes_of(node, "axes")};
}

void compile_permute(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &source = setting.input(operation), &target = setting.output(operation);
    const std::vector<std::int64_t>& axes = std::get<kind::Permute>(operation.kind).axes;
    const Shape& whole = setting.network.whole[operation.inputs[0]];
    const std::size_t packed = packed_axis(whole);
    std::vector<std::int64_t> strides;
    if (holds_bytes(compiler, operation.output) && !axes.empty() && axes[packed] != static_cast<std::int64_t>(packed)) {
        const auto dense = dense_strides(whole, 1);
        for (std::int64_t axis : axes) strides.push_back(dense[axis]);
        return add_strided_moves(compiler, operation, 0, strides);
    }
    for (std::int64_t axis : axes) strides.push_back(source.strides[axis]);
    add_copies(compiler, operation,
               {{compiler.place(operation.inputs[0]), Copy(target.dims, strides, target.strides, setting.images)}});
}

void arrange_permute(Arrangement& arrangement, Operation& operation) {
    const int from = operation.inputs[0];
    const auto& axes = std::get<kind::Permute>(operation.kind).axes;
    const std::size_t packed = packed_axis(arrangement.network().whole[from]);
    if (arrangement.holds_bytes(from) && !axes.empty() && axes[packed] != static_cast<std::int64_t>(packed))
        return arrangement.bring_plainly(operation, 0);
    const Storage storage = arrangement.storage(from);
    std::vector<std::int64_t> strides;
    for (std::int64_t axis : axes) strides.push_back(storage.strides[axis]);
    arrangement.view(operation, std::move(strides), 0);
}

std::optional<Kind> read_slice(const Node& node) {
    if (node.op != "slice") return {};
    return kind::Slice{axes_of(node, "axis")[0], integer_of(node, "start")};
}

void compile_slice(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &source = setting.input(operation), &target = setting.output(operation);
    const auto [axis, start] = std::get<kind::Slice>(operation.kind);
    const Shape& whole = setting.network.whole[operation.inputs[0]];
    if (holds_bytes(compiler, operation.output) && axis == static_cast<std::int64_t>(packed_axis(whole))) {
        const auto dense = dense_strides(whole, 1);
        return add_strided_moves(compiler, operation, start * dense[axis], dense);
    }
    add_copies(compiler, operation,
               {{compiler.place(operation.inputs[0]) + start * source.strides[axis],
                 Copy(target.dims, source.strides, target.strides, setting.images)}});
}

// Planes of a value are a view of it.
bool can_fold_slice(const FusedNetwork& network, const Operation& operation, int) {
    return std::get<kind::Slice>(operation.kind).axis == 0 && network.views(operation.output);
}

std::int64_t view_of_planes(const Setting& setting, const Operation& operation) {
    return std::get<kind::Slice>(operation.kind).start * setting.input(operation).strides[0];
}

void arrange_slice(Arrangement& arrangement, Operation& operation) {
    const int from = operation.inputs[0];
    const auto [axis, start] = std::get<kind::Slice>(operation.kind);
    if (arrangement.holds_bytes(from) && axis == static_cast<std::int64_t>(packed_axis(arrangement.dims(from))))
        return arrangement.bring_plainly(operation, 0);
    const Storage storage = arrangement.storage(from);
    arrangement.view(operation, storage.strides, start * storage.strides[axis]);
}

std::optional<Kind> read_concat(const Node& node) {
    if (node.op != "concat") return {};
    return kind::Concat{axes_of(node, "axis")[0]};
}

// Those of all inputs, in the order of the output's elements.
std::vector<BytePlace> joined_places(const Compiler& compiler, const Operation& operation, std::int64_t axis) {
    const auto& whole = compiler.setting().network.whole;
    std::vector<BytePlace> joined(static_cast<std::size_t>(elements(whole[operation.output])));
    const auto dense = dense_strides(whole[operation.output], 1);
    std::int64_t start = 0;
    for (int value : operation.inputs) {
        const auto places = places_of(compiler, value);
        const Offsets targets = offsets_of(whole[value], dense);
        for (std::size_t i = 0; i < places.size(); ++i)
            joined[static_cast<std::size_t>(start * dense[axis] + targets[i])] = places[i];
        start += whole[value][axis];
    }
    return joined;
}

void compile_concat(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage& target = setting.output(operation);
    const std::int64_t axis = std::get<kind::Concat>(operation.kind).axis;
    if (!joins_words(setting.network, operation))
        return add_byte_moves(compiler, operation, joined_places(compiler, operation, axis));
    const std::vector<std::int64_t> starts = starts_of(setting, operation);
    Parts parts;
    for (std::size_t i = 0; i < starts.size(); ++i) {
        const Storage& source = setting.storages[operation.inputs[i]];
        if (elements(source.dims) == 0 || compiler.holds(operation, i, starts[i])) continue;
        const Copy copy = source.folded ? Copy({source.size}, {1}, {1}, 1, starts[i])
                                        : Copy(source.dims, source.strides, target.strides, setting.images, starts[i]);
        parts.emplace_back(compiler.place(operation.inputs[i]), copy);
    }
    if (!parts.empty()) add_copies(compiler, operation, std::move(parts));
}

bool can_fold_concat(const FusedNetwork& network, const Operation& operation, int lanes) {
    return std::get<kind::Concat>(operation.kind).axis == 0 && joins_words(network, operation) &&
           std::all_of(operation.inputs.begin(), operation.inputs.end(),
                       [&](int value) { return foldable(network.shapes[value], lanes); });
}

void arrange_concat(Arrangement& arrangement, Operation& operation) {
    if (arrangement.holds_bytes(operation.output)) {
        for (std::size_t index = 0; index < operation.inputs.size(); ++index)
            arrangement.bring_plainly(operation, index);
        return;
    }
    const auto larger = [&](int a, int b) { return elements(arrangement.dims(a)) < elements(arrangement.dims(b)); };
    const int largest = *std::max_element(operation.inputs.begin(), operation.inputs.end(), larger);
    if (arrangement.plain(largest)) return;
    const Shape dims = arrangement.dims(operation.output);
    arrangement.put(operation, ordered_as(arrangement.storage(largest), dims, arrangement.lanes()));
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

constexpr FoldingRules kSliceFolding = {.possible = can_fold_slice, .planes = true, .view = view_of_planes};
constexpr FoldingRules kConcatFolding = {.possible = can_fold_concat, .planes = true};

}  // namespace

const Lowering lowerings::reshape = {
    .read = read_reshape, .cycles = nothing, .compile = compile_reshape, .renames = true, .arrange = arrange_reshape};
const Lowering lowerings::permute = {
    .read = read_permute, .cycles = streaming, .compile = compile_permute, .arrange = arrange_permute};
const Lowering lowerings::slice = {
    .read = read_slice,
    .cycles = streaming,
    .compile = compile_slice,
    .folding = &kSliceFolding,
    .arrange = arrange_slice,
};
const Lowering lowerings::concat = {
    .read = read_concat,
    .cycles = streaming,
    .compile = compile_concat,
    .folding = &kConcatFolding,
    .arrange = arrange_concat,
};
const Lowering lowerings::constant = {
    .read = read_constant, .cycles = nothing, .compile = compile_constant, .constant = true};
// Made by folding.cpp; its cost is counted there.
const Lowering lowerings::conversion = {.cycles = nothing, .compile = compile_conversion};

}  // namespace secateur
