#include "secateur/cpu.hpp"

namespace secateur {

std::vector<std::string_view> runnable_kernels() {
    std::vector<std::string_view> names;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (avx512) names.push_back("avx512");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.push_back("avx2");
#elif defined(__aarch64__)
    names.push_back("neon");
#endif
    names.push_back("scalar");
    return names;
}

}  // namespace secateur
