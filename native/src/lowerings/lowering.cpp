#include "lowerings/lowering.hpp"

#include <algorithm>
#include <stdexcept>

namespace secateur {
namespace {

constexpr const Lowering* kLowerings[] = {
    &lowerings::convolution, &lowerings::linear, &lowerings::affine,  &lowerings::unary,      &lowerings::binary,
    &lowerings::pool,        &lowerings::mean,   &lowerings::softmax, &lowerings::layer_norm, &lowerings::reshape,
    &lowerings::permute,     &lowerings::concat, &lowerings::slice,   &lowerings::constant,
};

bool same_shapes(const FusedNetwork& network, const Operation& operation, int) {
    const Shape& shape = network.shapes[operation.output];
    return std::all_of(operation.inputs.begin(), operation.inputs.end(),
                       [&](int value) { return network.shapes[value] == shape; });
}

}  // namespace

const FoldingRules kElementwiseFolding = {.possible = same_shapes};

Operation read_operation(const Node& node) {
    for (const Lowering* lowering : kLowerings)
        if (auto kind = lowering->read(node)) return {lowering, std::move(*kind), node.name, node.op, node.inputs};
    throw std::invalid_argument("node '" + node.name + "': the runtime has no operation '" + node.op + "'");
}

Filter* filter_of(Kind& kind) {
    if (auto* convolution = std::get_if<kind::Convolution>(&kind)) return &convolution->filter;
    if (auto* linear = std::get_if<kind::Linear>(&kind)) return &linear->filter;
    return nullptr;
}

std::int64_t integer_of(const Node& node, const char* attribute) { return integers_of(node, attribute)[0]; }

const std::vector<std::int64_t>& integers_of(const Node& node, const char* attribute) {
    return node.integers.at(attribute);
}

std::vector<std::int64_t> axes_of(const Node& node, const char* attribute) {
    std::vector<std::int64_t> axes = integers_of(node, attribute);
    for (auto& axis : axes) --axis;
    return axes;
}

Filter filter_in(const Node& node) {
    const Array &weight = node.weights.at("weight"), *bias = weight_of(node, "bias");
    const std::size_t outputs = static_cast<std::size_t>(weight.shape[0]);
    return {weight,
            {},
            bias == nullptr ? std::vector<float>(outputs, 0.0f) : std::vector<float>(bias->data, bias->data + outputs)};
}

const Array* weight_of(const Node& node, const char* role) {
    const auto found = node.weights.find(role);
    return found == node.weights.end() ? nullptr : &found->second;
}

}  // namespace secateur
