#include "fusion.hpp"

#include <cmath>
#include <stdexcept>

namespace secateur {

std::int64_t elements(const Shape& shape) {
    std::int64_t count = 1;
    for (auto size : shape) count *= size;
    return count;
}

namespace {

struct Uses {
    std::vector<int> count;           // readers of a value, graph outputs included
    std::vector<int> only;            // index of the node that reads it, if that is one node once
};

Uses count_uses(const Network& network) {
    const std::size_t values = network.inputs.size() + network.nodes.size();
    Uses uses{std::vector<int>(values, 0), std::vector<int>(values, -1)};
    for (std::size_t i = 0; i < network.nodes.size(); ++i)
        for (int input : network.nodes[i].inputs) ++uses.count[input], uses.only[input] = static_cast<int>(i);
    for (int output : network.outputs) ++uses.count[output];
    for (std::size_t v = 0; v < values; ++v)
        if (uses.count[v] != 1) uses.only[v] = -1;
    for (int output : network.outputs) uses.only[output] = -1;
    return uses;
}

const Array* weight_of(const Node& node, const char* role) {
    const auto found = node.weights.find(role);
    return found == node.weights.end() ? nullptr : &found->second;
}

// y = scale · x + shift per channel.
void batch_norm(const Node& node, std::vector<float>& scale, std::vector<float>& shift) {
    const Array &mean = node.weights.at("mean"), &variance = node.weights.at("variance");
    const Array *weight = weight_of(node, "weight"), *bias = weight_of(node, "bias");
    const double epsilon = node.numbers.at("eps");
    const std::size_t channels = static_cast<std::size_t>(elements(mean.shape));
    scale.resize(channels), shift.resize(channels);
    for (std::size_t c = 0; c < channels; ++c) {
        const double factor = (weight != nullptr ? weight->data[c] : 1.0) / std::sqrt(variance.data[c] + epsilon);
        scale[c] = static_cast<float>(factor);
        shift[c] = static_cast<float>((bias != nullptr ? bias->data[c] : 0.0) - mean.data[c] * factor);
    }
}

bool clamp_of(const Node& node, Clamp& clamp) {
    if (node.op == "relu") return clamp.low = 0.0f, true;
    if (node.op == "relu6") return clamp.low = 0.0f, clamp.high = 6.0f, true;
    return false;
}

class Fusion {
   public:
    explicit Fusion(const Network& network)
        : network_(network), uses_(count_uses(network)), taken_(network.nodes.size(), false),
          inputs_(static_cast<int>(network.inputs.size())) {}

    FusedNetwork run() {
        FusedNetwork fused;
        fused.shapes = network_.inputs;
        for (int i = 0; i < inputs_; ++i) fused.inputs.push_back(i);
        for (const Node& node : network_.nodes) fused.shapes.push_back(node.shape);
        fused.outputs = network_.outputs;
        std::vector<std::pair<int, Operation>> placed;  // by the position of its last node
        for (int i = 0; i < static_cast<int>(network_.nodes.size()); ++i) {
            if (taken_[i]) continue;
            int last = i;
            Operation operation = start(i, last);
            placed.emplace_back(last, std::move(operation));
        }
        std::vector<int> order(network_.nodes.size(), -1);
        for (std::size_t i = 0; i < placed.size(); ++i) order[placed[i].first] = static_cast<int>(i);
        for (int index : order)
            if (index >= 0) fused.operations.push_back(std::move(placed[index].second));
        return fused;
    }

   private:
    Operation start(int index, int& last) {
        const Node& node = network_.nodes[index];
        Operation operation = translate(node);
        if (operation.kind == Kind::kConvolution || operation.kind == Kind::kLinear) {
            last = fold_batch_norm(operation, last);
            last = fold_add(operation, last);
        }
        if (operation.kind == Kind::kConvolution || operation.kind == Kind::kLinear ||
            operation.kind == Kind::kBinary || operation.kind == Kind::kAffine)
            last = fold_clamp(operation, last);
        operation.output = inputs_ + last;
        return operation;
    }

    // The node that alone reads what node `last` makes, or null.
    const Node* reader(int last, int& index) const {
        index = uses_.only[inputs_ + last];
        return index < 0 || taken_[index] ? nullptr : &network_.nodes[index];
    }

    int take(Operation& operation, int index) {
        taken_[index] = true;
        operation.fused += "+" + network_.nodes[index].op;
        return index;
    }

    int fold_batch_norm(Operation& operation, int last) {
        int index;
        const Node* next = reader(last, index);
        const bool channels_lead = operation.kind == Kind::kConvolution || network_.nodes[last].shape.size() == 1;
        if (next == nullptr || next->op != "batch_norm" || !channels_lead) return last;
        std::vector<float> shift;
        batch_norm(*next, operation.scale, shift);
        for (std::size_t c = 0; c < shift.size(); ++c)
            operation.bias[c] = operation.bias[c] * operation.scale[c] + shift[c];
        return take(operation, index);
    }

    int fold_add(Operation& operation, int last) {
        int index;
        const Node* next = reader(last, index);
        if (next == nullptr || next->op != "add") return last;
        const int other = next->inputs[0] == inputs_ + last ? next->inputs[1] : next->inputs[0];
        const Shape& shape = other < inputs_ ? network_.inputs[other] : network_.nodes[other - inputs_].shape;
        if (shape != next->shape || network_.nodes[last].shape != next->shape || next->inputs[0] == next->inputs[1] || constant(other)) return last;
        operation.residual = true;
        operation.inputs.push_back(other);
        return take(operation, index);
    }

    int fold_clamp(Operation& operation, int last) {
        int index;
        const Node* next = reader(last, index);
        return next != nullptr && clamp_of(*next, operation.clamp) ? take(operation, index) : last;
    }

    bool constant(int value) const { return value >= inputs_ && network_.nodes[value - inputs_].op == "constant"; }

    Operation translate(const Node& node) const {
        Operation op{};
        op.name = node.name, op.fused = node.op, op.inputs = node.inputs;
        const auto integers = [&](const char* name) { return node.integers.at(name); };
        const auto axes_from_zero = [&](std::vector<std::int64_t> axes) {
            for (auto& axis : axes) --axis;
            return axes;
        };
        if (node.op == "conv2d" || node.op == "linear") {
            op.kind = node.op == "conv2d" ? Kind::kConvolution : Kind::kLinear;
            op.weight = node.weights.at("weight");
            const Array* bias = weight_of(node, "bias");
            op.bias.assign(static_cast<std::size_t>(op.weight.shape[0]), 0.0f);
            if (bias != nullptr) op.bias.assign(bias->data, bias->data + op.weight.shape[0]);
            if (op.kind == Kind::kConvolution) {
                op.stride = integers("stride"), op.padding = integers("padding"), op.dilation = integers("dilation");
                op.groups = integers("groups")[0];
            }
        } else if (node.op == "batch_norm") {
            op.kind = Kind::kAffine;
            batch_norm(node, op.scale, op.bias);
        } else if (node.op == "layer_norm") {
            op.kind = Kind::kLayerNorm;
            op.start = integers("axes")[0], op.epsilon = node.numbers.at("eps");
            if (const Array* weight = weight_of(node, "weight")) op.norm_weight = *weight;
            if (const Array* bias = weight_of(node, "bias")) op.norm_bias = *bias;
        } else if (node.op == "softmax") {
            op.kind = Kind::kSoftmax, op.axes = axes_from_zero(integers("axis"));
        } else if (node.op == "add" || node.op == "mul") {
            op.kind = Kind::kBinary, op.binary = node.op == "add" ? Binary::kAdd : Binary::kMul;
        } else if (node.op == "max_pool2d" || node.op == "avg_pool2d") {
            op.kind = Kind::kPool, op.average = node.op == "avg_pool2d";
            op.kernel = integers("kernel"), op.stride = integers("stride"), op.padding = integers("padding");
            op.dilation = op.average ? std::vector<std::int64_t>{1, 1} : integers("dilation");
            op.count_padding = op.average && integers("count_include_pad")[0] != 0;
        } else if (node.op == "adaptive_avg_pool2d") {
            op.kind = Kind::kMean;
        } else if (node.op == "mean") {
            op.kind = Kind::kMean, op.axes = axes_from_zero(integers("axes"));
        } else if (node.op == "reshape") {
            op.kind = Kind::kReshape;
        } else if (node.op == "permute") {
            op.kind = Kind::kPermute, op.axes = axes_from_zero(integers("axes"));
        } else if (node.op == "concat") {
            op.kind = Kind::kConcat, op.axes = axes_from_zero(integers("axis"));
        } else if (node.op == "slice") {
            op.kind = Kind::kSlice, op.axes = axes_from_zero(integers("axis")), op.start = integers("start")[0];
        } else if (node.op == "constant") {
            op.kind = Kind::kConstant, op.weight = node.weights.at("value");
        } else {
            op.kind = Kind::kUnary, op.unary = unary_of(node);
            if (op.unary == Unary::kLeakyRelu) op.slope = static_cast<float>(node.numbers.at("negative_slope"));
        }
        return op;
    }

    static Unary unary_of(const Node& node) {
        static const std::map<std::string, Unary> known = {
            {"relu", Unary::kRelu}, {"relu6", Unary::kRelu6}, {"leaky_relu", Unary::kLeakyRelu},
            {"hardswish", Unary::kHardswish}, {"hardsigmoid", Unary::kHardsigmoid}, {"silu", Unary::kSilu},
            {"sigmoid", Unary::kSigmoid}, {"tanh", Unary::kTanh}, {"gelu", Unary::kGelu},
        };
        const auto found = known.find(node.op);
        if (found == known.end())
            throw std::invalid_argument("node '" + node.name + "': the runtime has no operation '" + node.op + "'");
        if (found->second == Unary::kGelu && node.approximate == "tanh") return Unary::kGeluTanh;
        return found->second;
    }

    const Network& network_;
    Uses uses_;
    std::vector<bool> taken_;
    int inputs_;
};

}  // namespace

FusedNetwork fuse(const Network& network) { return Fusion(network).run(); }

}  // namespace secateur
