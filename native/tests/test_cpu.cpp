#include "check.hpp"
#include "kernels.hpp"
#include "secateur/cpu.hpp"

TEST(scalar_runs_everywhere_and_comes_last) {
    const auto found = secateur::runnable_kernels();
    CHECK(!found.empty() && found.back() == &secateur::kScalarKernels);
}
