#include "prediction.hpp"

#include <algorithm>

#include "folding.hpp"
#include "plain_convolution.hpp"
#include "vector_product.hpp"
#include "winograd.hpp"
#include "site.hpp"

namespace secateur {
namespace {

// Bytes that do not fit into L2 have to come from and go to somewhere further.
double traffic(double bytes) { return 0.03 * bytes + 0.5 * std::max(0.0, bytes - 1e6); }

double predict_vector(const Operation& operation, std::int64_t rows, std::int64_t pixels, const Kernels& kernels) {
    const std::int64_t all = elements(operation.weight.shape);
    std::int64_t nonzeros = 0;
    for (std::int64_t i = 0; i < all; ++i) nonzeros += operation.weight.data[i] != 0.0f;
    const Cycles& cycles = kernels.cycles;
    return static_cast<double>(rows * pixels) * std::min(static_cast<double>(all) * cycles.dense_weight, static_cast<double>(nonzeros) * cycles.sparse_weight);
}

}  // namespace

double predict_operation(const FusedNetwork& network, const Operation& operation, int images, const Kernels& kernels, const Costs& costs, const std::vector<bool>* bordered) {
    const auto storage = [&](int value) {
        const Shape& shape = network.shapes[value];
        return bordered != nullptr ? make_folded(shape, kernels.lanes, (*bordered)[value]) : make_storage(shape, images, kernels.lanes);
    };
    double bytes = 4.0 * static_cast<double>(storage(operation.output).size);
    for (int value : operation.inputs) bytes += 4.0 * static_cast<double>(storage(value).size);
    if (operation.kind == Kind::kConstant || operation.kind == Kind::kReshape) return 0;
    const bool convolution = operation.kind == Kind::kConvolution, linear = operation.kind == Kind::kLinear;
    const bool by_rows = images == 1 && operation.kind == Kind::kPool;
    if (!convolution && !linear) return traffic(bytes) + bytes * (by_rows ? 0.16 : 0.05);
    const Shape& shape = network.shapes[operation.output];
    if (elements(shape) == 0) return 0;
    const std::int64_t rows = elements(shape) / operation.weight.shape[0];
    if (images == 1 && linear) return predict_vector(operation, rows, 1, kernels) + traffic(bytes);
    if (images == 1 && few_pixels(network.shapes[operation.inputs[0]], shape, kernels.lanes)) return predict_vector(operation, 1, rows, kernels) + traffic(bytes);
    const Site site = convolution ? convolution_site(operation, storage(operation.inputs[0]), storage(operation.output), images)
                                  : linear_site(operation, storage(operation.inputs[0]), storage(operation.output), images);
    const auto plain = [&] { return PlainConvolution(operation, site.shape, site.input, site.output).cycles(); };
    if (images == 1 && tiny(shape, kernels.lanes)) return plain() + traffic(bytes);
    const auto choices = Convolution::choices(operation, site.shape, site.input, site.output, kernels, costs);
    const auto winograd = Winograd::choices(site.shape, site.input, site.output, kernels, costs);
    const double tiles = choices.empty() ? plain() : choices.front().cycles;
    return (winograd.empty() ? tiles : std::min(tiles, winograd.front().cycles)) + traffic(bytes);
}

std::vector<double> predict_cycles(const FusedNetwork& network, int images, const Kernels& kernels, const Costs& costs) {
    if (images == 1) return folded_cycles(network, kernels, costs);
    std::vector<double> cycles;
    for (const Operation& operation : network.operations) cycles.push_back(predict_operation(network, operation, images, kernels, costs, nullptr));
    return cycles;
}

}  // namespace secateur
