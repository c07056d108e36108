// Where operations are computed: how many images at a time, by which kernels, on values that lie where.
#pragma once

#include <vector>

#include "fusion.hpp"
#include "kernels.hpp"
#include "secateur/costs.hpp"
#include "storage.hpp"

namespace secateur {

struct Setting {
    const FusedNetwork& network;
    int images;
    const Kernels& kernels;
    const CostModel& costs;
    std::vector<Storage> storages;  // of every value

    const Storage& input(const Operation& operation, std::size_t index = 0) const {
        return storages[operation.inputs[index]];
    }
    const Storage& output(const Operation& operation) const { return storages[operation.output]; }
};

// No value folded.
Setting plain_setting(const FusedNetwork& network, int images, const Kernels& kernels, const CostModel& costs);

}  // namespace secateur
