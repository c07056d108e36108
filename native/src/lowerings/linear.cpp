#include "lowerings/layers.hpp"
#include "lowerings/lowering.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

std::optional<Kind> read(const Node& node) {
    if (node.op != "linear") return {};
    return kind::Linear{filter_in(node)};
}

const Filter& filter_of(const Operation& operation) { return std::get<kind::Linear>(operation.kind).filter; }

Site site_of(const Setting& setting, const Operation& operation) {
    return linear_site(filter_of(operation), setting.input(operation), setting.output(operation), setting.images);
}

LayerChoice choose(const Setting& setting, const Operation& operation) {
    const Filter& filter = filter_of(operation);
    const std::int64_t rows = elements(setting.output(operation).dims) / filter.outputs();
    if (setting.images == 1) return choose_vector(filter, rows, setting.kernels);
    return choose_tiles(filter, site_of(setting, operation), setting.kernels, setting.costs);
}

double cycles(const Setting& setting, const Operation& operation) {
    if (elements(setting.output(operation).dims) == 0) return 0;
    return choose(setting, operation).cycles + traffic(setting, operation);
}

Offsets row_starts(const Storage& storage) {  // of every row of features
    return offsets_of(Shape(storage.dims.begin(), storage.dims.end() - 1), storage.strides);
}

VectorLayer vector_layer(const Filter& filter, const Storage& input, const Storage& output) {
    const std::int64_t outputs = filter.outputs(), inputs = filter.weight.shape[1];
    const auto weight = [&filter, inputs](std::int64_t row, std::int64_t column) {
        const float value = filter.weight.data[row * inputs + column];
        return filter.scale.empty() ? value : value * filter.scale[row];
    };
    const auto all = [inputs](std::int64_t) { return VectorProduct::Reach{0, inputs}; };
    return {outputs, inputs, weight, all, {}, filter.bias, row_starts(input), row_starts(output)};
}

void compile(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Filter& filter = filter_of(operation);
    const LayerChoice choice = choose(setting, operation);
    if (!std::holds_alternative<AsVector>(choice.way))
        return add_layer(compiler, operation, filter, site_of(setting, operation), choice, "fully connected");
    add_vector(compiler, operation, filter, vector_layer(filter, setting.input(operation), setting.output(operation)),
               "fully connected");
}

}  // namespace

const Lowering lowerings::linear = {.read = read, .cycles = cycles, .compile = compile, .clamps = true};

}  // namespace secateur
