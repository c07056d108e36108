// The extension module secateur._native: one function of Python per function of the core, no logic of its own.
#include <nanobind/nanobind.h>

#include "secateur/cpu.hpp"

namespace nb = nanobind;

NB_MODULE(_native, module) {
    module.def(
        "kernels",
        [] {
            nb::list names;
            for (auto name : secateur::runnable_kernels()) names.append(nb::str(name.data(), name.size()));
            return names;
        },
        "Names of the kernels that this processor can run, fastest first.");
}
