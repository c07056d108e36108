// Which values of a single image are folded (storage.hpp), and the network with the conversions that this needs.
#pragma once

#include <vector>

#include "convolution.hpp"
#include "fusion.hpp"
#include "kernels.hpp"
#include "secateur/costs.hpp"
#include "storage.hpp"

namespace secateur {

struct FoldedNetwork {
    FusedNetwork network;        // with kFold and kUnfold where layouts meet
    std::vector<bool> folded;    // per value
    std::vector<bool> bordered;  // per value: whether it is kept with a border, if it is folded
    std::vector<bool> filled;    // per value: whether a kernel reads that border
};

// Values of one size are folded together, where that makes the whole faster by the cost model.
FoldedNetwork fold(const FusedNetwork& network, const Kernels& kernels, const CostModel& costs);
// No value folded: several images.
FoldedNetwork unfolded(const FusedNetwork& network);
// Cycles per operation of `network`, folded as fold() would; conversions count for the operation that needs them.
std::vector<double> folded_cycles(const FusedNetwork& network, const Kernels& kernels, const CostModel& costs);

Border border_of(const Storage& storage, int lanes, Word fill);

}  // namespace secateur
