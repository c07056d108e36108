#include "check.hpp"
#include "kernels.hpp"
#include "secateur/cpu.hpp"

TEST(scalar_runs_everywhere_and_comes_last) {
    const auto found = secateur::runnable_kernels();
    CHECK(!found.empty() && found.back()->variants == secateur::kScalarKernels.variants);
    CHECK(found.back()->bytes == &secateur::kScalarBytes);
}

TEST(every_kernel_has_a_name_of_its_own_and_loops_of_bytes) {
    const auto found = secateur::runnable_kernels();
    for (const auto* one : found) {
        CHECK(one->bytes != nullptr);
        for (const auto* two : found) CHECK(one == two || secateur::name_of(*one) != secateur::name_of(*two));
    }
}
