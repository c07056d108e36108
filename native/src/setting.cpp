#include "setting.hpp"

namespace secateur {

Setting plain_setting(const FusedNetwork& network, int images, const Kernels& kernels, const CostModel& costs) {
    Setting setting{network, images, kernels, costs, {}};
    for (const Shape& shape : network.shapes) setting.storages.push_back(make_storage(shape, images, kernels.lanes));
    return setting;
}

}  // namespace secateur
