#include "setting.hpp"

namespace secateur {

Setting plain_setting(const FusedNetwork& network, int images, const Kernels& kernels, const CostModel& costs) {
    Setting setting{network, images, kernels, costs, {}};
    for (std::size_t value = 0; value < network.shapes.size(); ++value) {
        const auto& placed = network.placings.empty() ? std::nullopt : network.placings[value].storage;
        setting.storages.push_back(placed ? *placed : make_storage(network.shapes[value], images, kernels.lanes));
    }
    return setting;
}

}  // namespace secateur
