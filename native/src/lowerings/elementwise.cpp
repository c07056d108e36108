// Functions of one element or of two: what they are called and what they compute is in kernels/elementwise.hpp.
#include <algorithm>
#include <string_view>

#include "arranging.hpp"
#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "lowerings/pieces.hpp"
#include "operations.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

// Every kernel has the functions of all others, in the same order.
template <typename Function>
int find(const Function* functions, int count, std::string_view name) {
    for (int i = 0; i < count; ++i)
        if (name == functions[i].name) return i;
    return -1;
}

std::optional<Kind> read_unary(const Node& node) {
    std::string name = node.op;
    for (const auto& [attribute, text] : node.texts) name += " " + text;
    const int index = find(kScalarKernels.unaries, kScalarKernels.unary_count, name);
    if (index < 0) return {};
    const UnaryFunction& function = kScalarKernels.unaries[index];
    kind::Unary unary{index, {}};
    for (int i = 0; i < kParameters; ++i)
        unary.parameters[i] =
            function.parameters[i] == nullptr ? function.fixed[i] : node.numbers.at(function.parameters[i]);
    return unary;
}

void compile_unary(Compiler& compiler, const Operation& operation) {
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    const ElementPieces pieces(compiler.setting().output(operation));
    const auto& unary = std::get<kind::Unary>(operation.kind);
    Step& step = compiler.push(operation, "loop");
    step.items = pieces.items;
    step.run = [=, run = compiler.setting().kernels.unaries[unary.function].run, parameters = unary.parameters](
                   const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        pieces.visit(begin, end, [&](std::int64_t first, std::int64_t count) {
            run(parameters.data(), frame.floats(from + first), frame.floats(to + first), count);
        });
    };
}

std::optional<Kind> read_binary(const Node& node) {
    const int index = find(kScalarKernels.binaries, kScalarKernels.binary_count, node.op);
    if (index < 0) return {};
    return kind::Binary{index};
}

void compile_binary(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &target = setting.output(operation), &left = setting.input(operation, 0),
                  &right = setting.input(operation, 1);
    const std::int64_t a = compiler.place(operation.inputs[0]), b = compiler.place(operation.inputs[1]),
                       to = compiler.place(operation.output);
    const auto run = setting.kernels.binaries[std::get<kind::Binary>(operation.kind).function].run;
    const Clamp clamp = operation.clamp;
    Step& step = compiler.push(operation, "loop");
    if (left.dims == target.dims && right.dims == target.dims) {
        const ElementPieces pieces(target);
        step.items = pieces.items;
        step.run = [=](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
            pieces.visit(begin, end, [&](std::int64_t first, std::int64_t count) {
                run({frame.floats(a + first), frame.floats(b + first), frame.floats(to + first), 1, 1, count, clamp.low,
                     clamp.high});
            });
        };
        return;
    }
    Operand one{a, broadcast(left, target.dims)}, other{b, broadcast(right, target.dims)}, made{to, target.strides};
    Shape dims = target.dims;
    if (setting.images == 1) order_axes(dims, one, other, made);
    step.run = [=, images = setting.images](const Frame& frame, std::int64_t, std::int64_t, Word*) {
        combine(run, clamp, dims, one, other, made, frame.floats(0), images);
    };
}

}  // namespace

const Lowering lowerings::unary = {.read = read_unary,
                                   .cycles = streaming,
                                   .compile = compile_unary,
                                   .folding = &kElementwiseFolding,
                                   .arrange = arrange_alike};
const Lowering lowerings::binary = {.read = read_binary,
                                    .cycles = streaming,
                                    .compile = compile_binary,
                                    .folding = &kElementwiseFolding,
                                    .clamps = true,
                                    .arrange = arrange_alike};

}  // namespace secateur
