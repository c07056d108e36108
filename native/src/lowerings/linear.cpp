#include <algorithm>

#include "arranging.hpp"
#include "lowerings/layers.hpp"
#include "lowerings/lowering.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

std::optional<Kind> read(const Node& node) {
    if (node.op == "linear") return kind::Linear{filter_in(node)};
    if (node.op == "quantised_linear") return kind::Linear{byte_filter_in(node, 1)};
    return {};
}

const Filter& filter_of(const Operation& operation) { return std::get<kind::Linear>(operation.kind).filter; }

std::int64_t rows_of(const Shape& dims) { return elements(dims) / std::max<std::int64_t>(1, dims.back()); }

// Enough of them that vectors of rows take fewer cycles than a row at a time.
bool many_rows(const Shape& dims, int lanes) { return dims.size() > 1 && 2 * rows_of(dims) >= lanes; }

// Whether rows fill vectors, as pixels do.
bool in_tiles(const Setting& setting, const Operation& operation) {
    const Storage& input = setting.input(operation);
    return setting.images > 1 || (many_rows(input.dims, setting.kernels.lanes) && has_feature_planes(input, 0));
}

Site site_of(const Setting& setting, const Operation& operation) {
    return linear_site(filter_of(operation), setting.input(operation), setting.output(operation), setting.images);
}

LayerChoice choose(const Setting& setting, const Operation& operation) {
    const Filter& filter = filter_of(operation);
    if (!in_tiles(setting, operation))
        return choose_vector(filter, rows_of(setting.output(operation).dims), setting.kernels);
    return choose_tiles(filter, site_of(setting, operation), setting.kernels, setting.costs);
}

double cycles(const Setting& setting, const Operation& operation) {
    if (elements(setting.output(operation).dims) == 0) return 0;
    return choose(setting, operation).cycles + traffic(setting, operation);
}

Offsets row_starts(const Storage& storage) {  // of every row of features
    return offsets_of(Shape(storage.dims.begin(), storage.dims.end() - 1), storage.strides);
}

void compile(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Filter& filter = filter_of(operation);
    const LayerChoice choice = choose(setting, operation);
    if (!std::holds_alternative<AsVector>(choice.way))
        return add_layer(compiler, operation, filter, site_of(setting, operation), choice, "fully connected");
    add_vector(compiler, operation, filter, matrix_problem(filter, setting.kernels),
               row_starts(setting.input(operation)), row_starts(setting.output(operation)), "fully connected");
}

void arrange(Arrangement& arrangement, Operation& operation) {
    const Shape from = arrangement.dims(operation.inputs[0]), to = arrangement.dims(operation.output);
    const int lanes = arrangement.lanes();
    if (!many_rows(from, lanes)) {
        for (std::size_t index = 0; index < operation.inputs.size(); ++index)
            arrangement.bring_plainly(operation, index);
        return;
    }
    const int value = operation.inputs[0];
    if (!has_feature_planes(arrangement.storage(value), arrangement.from(value)))
        arrangement.bring(operation, 0, feature_planes(from, lanes));
    const Storage made = feature_planes_like(arrangement.storage(operation.inputs[0]), to.back(), lanes);
    if (operation.residual) arrangement.bring(operation, operation.inputs.size() - 1, made);
    arrangement.put(operation, made);
}

}  // namespace

const Lowering lowerings::linear = {
    .read = read, .cycles = cycles, .compile = compile, .clamps = true, .arrange = arrange};

}  // namespace secateur
