// What operations should cost, which decides between layouts.
#pragma once

#include <vector>

#include "fusion.hpp"
#include "kernels.hpp"
#include "secateur/costs.hpp"

namespace secateur {

// Cycles of one operation for one block of images. bordered: of one image whose values are folded, those
// with a border that it names; else null.
double predict_operation(const FusedNetwork& network, const Operation& operation, int images, const Kernels& kernels, const Costs& costs, const std::vector<bool>* bordered);
// Of every operation, one image folded where that is faster.
std::vector<double> predict_cycles(const FusedNetwork& network, int images, const Kernels& kernels, const Costs& costs);

}  // namespace secateur
