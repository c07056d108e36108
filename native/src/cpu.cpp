#include "secateur/cpu.hpp"

#include "kernels.hpp"

namespace secateur {

std::vector<const Kernels*> runnable_kernels() {
    std::vector<const Kernels*> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("bmi2");
    if (avx512) found.push_back(&kAvx512Kernels);
    if (avx2) found.push_back(&kAvx2Kernels);
#elif defined(__aarch64__)
    found.push_back(&kNeonKernels);
#endif
    found.push_back(&kScalarKernels);
    return found;
}

std::string_view name_of(const Kernels& kernels) { return kernels.name; }

}  // namespace secateur
