// Which instruction sets this processor has.
#pragma once

#include <string_view>
#include <vector>

namespace secateur {

// Names of the kernels that this processor can run, fastest first. "scalar" is always among them.
std::vector<std::string_view> runnable_kernels();

}  // namespace secateur
