// Which kernels this processor can run.
#pragma once

#include <string_view>
#include <vector>

namespace secateur {

struct Kernels;

// Fastest first. "scalar" is always among them.
std::vector<const Kernels*> runnable_kernels();
std::string_view name_of(const Kernels& kernels);

}  // namespace secateur
