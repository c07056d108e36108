// What operations should cost, which decides between layouts.
#pragma once

#include <vector>

#include "fusion.hpp"
#include "kernels.hpp"
#include "secateur/costs.hpp"
#include "setting.hpp"

namespace secateur {

// Cycles of moving an operation's values: those that do not fit into L2 have to come from and go to somewhere further.
double traffic(const Setting& setting, const Operation& operation);
// The same, and those of an operation that does little to each element: so many cycles a byte.
double streaming(const Setting& setting, const Operation& operation, double per_byte);
double streaming(const Setting& setting, const Operation& operation);
double nothing(const Setting& setting, const Operation& operation);

// Cycles of every operation for one block of images; one image folded where that is faster.
std::vector<double> predict_cycles(const FusedNetwork& network, int images, const Kernels& kernels,
                                   const CostModel& costs);

}  // namespace secateur
