#include "secateur/cpu.hpp"

#include "kernels.hpp"
#include "platform.hpp"

namespace secateur {
namespace {

// The loops of floats of one instruction set beside those of bytes of the same or a newer one.
constexpr Kernels composed(const char* name, const Kernels& floats, const Bytes& bytes) {
    Kernels both = floats;
    both.name = name, both.bytes = &bytes;
    return both;
}

}  // namespace

std::vector<const Kernels*> runnable_kernels() {
    std::vector<const Kernels*> found;
    static const Kernels scalar = composed("scalar", kScalarKernels, kScalarBytes);
#if defined(__x86_64__)
    static const Kernels avx2 = composed("avx2", kAvx2Kernels, kAvx2Bytes),
                         avx2_vnni = composed("avx2vnni", kAvx2Kernels, kAvx2VnniBytes),
                         avx512 = composed("avx512", kAvx512Kernels, kAvx512Bytes),
                         avx512_vnni = composed("avx512vnni", kAvx512Kernels, kAvx512VnniBytes);
    const auto has = platform::x86_features();
    if (has.avx512 && has.avx512_vnni) found.push_back(&avx512_vnni);
    if (has.avx512) found.push_back(&avx512);
    if (has.avx2 && has.avx_vnni) found.push_back(&avx2_vnni);
    if (has.avx2) found.push_back(&avx2);
#elif defined(__aarch64__)
    static const Kernels neon = composed("neon", kNeonKernels, kNeonBytes),
                         neon_dot = composed("neondot", kNeonKernels, kNeonDotBytes);
    if (platform::has_dot_products()) found.push_back(&neon_dot);
    found.push_back(&neon);
#endif
    found.push_back(&scalar);
    return found;
}

std::string_view name_of(const Kernels& kernels) { return kernels.name; }

}  // namespace secateur
