#include "prediction.hpp"

#include <algorithm>

#include "folding.hpp"
#include "lowerings/lowering.hpp"

namespace secateur {
namespace {

double bytes_of(const Setting& setting, const Operation& operation) {
    double bytes = 4.0 * static_cast<double>(setting.output(operation).size);
    for (int value : operation.inputs) bytes += 4.0 * static_cast<double>(setting.storages[value].size);
    return bytes;
}

double traffic_of(double bytes) { return 0.03 * bytes + 0.5 * std::max(0.0, bytes - 1e6); }

}  // namespace

double traffic(const Setting& setting, const Operation& operation) { return traffic_of(bytes_of(setting, operation)); }

double streaming(const Setting& setting, const Operation& operation, double per_byte) {
    const double bytes = bytes_of(setting, operation);
    return traffic_of(bytes) + bytes * per_byte;
}

double streaming(const Setting& setting, const Operation& operation) { return streaming(setting, operation, 0.05); }

double nothing(const Setting&, const Operation&) { return 0; }

std::vector<double> predict_cycles(const FusedNetwork& network, int images, const Kernels& kernels,
                                   const CostModel& costs) {
    if (images == 1) return folded_cycles(network, kernels, costs);
    const Setting setting = plain_setting(network, images, kernels, costs);
    std::vector<double> cycles;
    for (const Operation& operation : network.operations)
        cycles.push_back(operation.lowering->cycles(setting, operation));
    return cycles;
}

}  // namespace secateur
