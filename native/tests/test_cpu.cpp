#include "check.hpp"
#include "secateur/cpu.hpp"

TEST(scalar_runs_everywhere_and_comes_last) {
    const auto names = secateur::runnable_kernels();
    CHECK(!names.empty() && names.back() == "scalar");
}
