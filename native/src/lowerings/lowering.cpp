#include "lowerings/lowering.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace secateur {
namespace {

constexpr const Lowering* kLowerings[] = {
    &lowerings::convolution, &lowerings::linear,    &lowerings::affine,      &lowerings::unary,
    &lowerings::binary,      &lowerings::pool,      &lowerings::mean,        &lowerings::softmax,
    &lowerings::layer_norm,  &lowerings::reshape,   &lowerings::permute,     &lowerings::concat,
    &lowerings::slice,       &lowerings::product,   &lowerings::attention,   &lowerings::recurrence,
    &lowerings::cumulation,  &lowerings::constant,  &lowerings::quantise,    &lowerings::dequantise,
    &lowerings::take,        &lowerings::embedding, &lowerings::gather,      &lowerings::top,
    &lowerings::select,      &lowerings::resize,    &lowerings::grid_sample, &lowerings::byte_pair,
    &lowerings::byte_pool,   &lowerings::byte_mean, &lowerings::byte_table,
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
        if (auto kind = lowering->read(node)) {
            Operation operation{lowering, std::move(*kind), node.name, node.op, node.inputs};
            const Filter* filter = filter_of(operation.kind);
            operation.residual = filter != nullptr && filter->bytes && node.inputs.size() == 2;
            return operation;
        }
    throw std::invalid_argument("node '" + node.name + "': the runtime has no operation '" + node.op + "'");
}

const Filter* filter_of(const Kind& kind) {
    if (const auto* convolution = std::get_if<kind::Convolution>(&kind)) return &convolution->filter;
    if (const auto* linear = std::get_if<kind::Linear>(&kind)) return &linear->filter;
    return nullptr;
}

Filter* filter_of(Kind& kind) { return const_cast<Filter*>(filter_of(std::as_const(kind))); }

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
            bias == nullptr ? std::vector<float>(outputs, 0.0f) : std::vector<float>(bias->data, bias->data + outputs),
            nullptr,
            taps_of(weight.shape)};
}

float number_of(const Node& node, const char* attribute) { return static_cast<float>(node.numbers.at(attribute)); }

std::int32_t zero_of(const Node& node, const char* attribute) {
    return static_cast<std::int32_t>(integer_of(node, attribute));
}

Filter byte_filter_in(const Node& node, std::int64_t groups) {
    const Array& weight = node.weights.at("weight");
    Requantisation end{};
    end.floats = node.element == Element::kFloat32;
    end.planes = static_cast<std::int32_t>(weight.shape[0]);
    end.residual_scale = number_of(node, "residual_factor");
    end.residual_zero = zero_of(node, "residual_zero_point"), end.zero = zero_of(node, "output_zero_point");
    end.low = number_of(node, "low") - static_cast<float>(end.zero);
    end.high = number_of(node, "high") - static_cast<float>(end.zero);
    const auto made = make_byte_weights(weight, weight_of(node, "bias"), node.weights.at("multiplier"), groups,
                                        zero_of(node, "input_zero_point"), end);
    return {weight, {}, {}, made, made->taps};
}

const Array* weight_of(const Node& node, const char* role) {
    const auto found = node.weights.find(role);
    return found == node.weights.end() ? nullptr : &found->second;
}

}  // namespace secateur
