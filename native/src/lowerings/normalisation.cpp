#include "arranging.hpp"
#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "operations.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

std::optional<Kind> read_softmax(const Node& node) {
    if (node.op != "softmax") return {};
    return kind::Softmax{axes_of(node, "axis")[0]};
}

void compile_softmax(Compiler& compiler, const Operation& operation) {
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output),
                       axis = std::get<kind::Softmax>(operation.kind).axis;
    const auto lines = lines_of(compiler.setting().output(operation), axis, axis + 1);
    Step& step = compiler.push(operation, "loop");
    step.run = [=, images = compiler.setting().images](const Frame& frame, std::int64_t, std::int64_t, Word*) {
        softmax_lines(lines, frame.floats(from), frame.floats(to), images);
    };
}

std::optional<Kind> read_layer_norm(const Node& node) {
    if (node.op != "layer_norm") return {};
    const Array *weight = weight_of(node, "weight"), *bias = weight_of(node, "bias");
    return kind::LayerNorm{integer_of(node, "axes"), node.numbers.at("eps"), weight == nullptr ? Array{} : *weight,
                           bias == nullptr ? Array{} : *bias};
}

void compile_layer_norm(Compiler& compiler, const Operation& operation) {
    const auto& norm = std::get<kind::LayerNorm>(operation.kind);
    const Storage& storage = compiler.setting().output(operation);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output),
                       rank = static_cast<std::int64_t>(storage.dims.size());
    const auto lines = lines_of(storage, rank - norm.axes, rank);
    const auto copy = [](const Array& array) {
        return array.data == nullptr ? std::vector<float>{}
                                     : std::vector<float>(array.data, array.data + elements(array.shape));
    };
    Step& step = compiler.push(operation, "loop");
    step.run = [=, images = compiler.setting().images, epsilon = norm.epsilon, weight = copy(norm.weight),
                bias = copy(norm.bias)](const Frame& frame, std::int64_t, std::int64_t, Word*) {
        normalise_lines(lines, weight, bias, epsilon, frame.floats(from), frame.floats(to), images);
    };
}

}  // namespace

const Lowering lowerings::softmax = {
    .read = read_softmax, .cycles = streaming, .compile = compile_softmax, .arrange = arrange_alike};
const Lowering lowerings::layer_norm = {
    .read = read_layer_norm, .cycles = streaming, .compile = compile_layer_norm, .arrange = arrange_alike};

}  // namespace secateur
