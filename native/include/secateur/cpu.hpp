// Which kernels this processor can run.
#pragma once

#include <vector>

#include "secateur/kernels.hpp"

namespace secateur {

// Fastest first. "scalar" is always among them.
std::vector<const Kernels*> runnable_kernels();

}  // namespace secateur
