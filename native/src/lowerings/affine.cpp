#include <cmath>

#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

// Batch norm in evaluation: scale · x + shift per channel.
std::optional<Kind> read(const Node& node) {
    if (node.op != "batch_norm") return {};
    const Array &mean = node.weights.at("mean"), &variance = node.weights.at("variance");
    const Array *weight = weight_of(node, "weight"), *bias = weight_of(node, "bias");
    const double epsilon = node.numbers.at("eps");
    const std::size_t channels = static_cast<std::size_t>(elements(mean.shape));
    kind::Affine affine{std::vector<float>(channels), std::vector<float>(channels)};
    for (std::size_t c = 0; c < channels; ++c) {
        const double factor = (weight != nullptr ? weight->data[c] : 1.0) / std::sqrt(variance.data[c] + epsilon);
        affine.scale[c] = static_cast<float>(factor);
        affine.shift[c] = static_cast<float>((bias != nullptr ? bias->data[c] : 0.0) - mean.data[c] * factor);
    }
    return affine;
}

void compile(Compiler& compiler, const Operation& operation) {
    const Storage& storage = compiler.setting().output(operation);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output),
                       stride = storage.strides[0];
    Step& step = compiler.push(operation, "loop");
    step.items = storage.dims[0];
    step.run = [=, run = compiler.setting().kernels.affine, affine = std::get<kind::Affine>(operation.kind),
                clamp = operation.clamp](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        run(frame.floats(from + begin * stride), stride, affine.scale.data() + begin, affine.shift.data() + begin,
            clamp.low, clamp.high, frame.floats(to + begin * stride), end - begin, stride);
    };
}

}  // namespace

const Lowering lowerings::affine = {
    .read = read, .cycles = streaming, .compile = compile, .folding = &kElementwiseFolding, .clamps = true};

}  // namespace secateur
