#include "platform.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <locale>
#include <new>
#include <sstream>
#include <system_error>

#if defined(_WIN32)
#include <malloc.h>
#else
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace secateur::platform {

// ---- Memory -----------------------------------------------------------------------------------------------------

void* allocate(std::size_t bytes, std::size_t alignment) {
#if defined(_WIN32)
    void* memory = _aligned_malloc(bytes, alignment);
#else
    void* memory = std::aligned_alloc(alignment, bytes);
#endif
    if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr std::size_t kHuge = std::size_t{1} << 21;
    if (alignment >= kHuge) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

void release(void* memory) {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    std::free(memory);
#endif
}

// ---- Processes and threads --------------------------------------------------------------------------------------

#if defined(_WIN32)
void at_fork(void (*)(), void (*)(), void (*)()) {}
#else
void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) { pthread_atfork(before, in_parent, in_child); }
#endif

void relax_core() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

void wait_for_end() {
    for (;;) {
#if defined(_WIN32)
        std::this_thread::sleep_for(std::chrono::hours(1));
#else
        pause();
#endif
    }
}

#if defined(__linux__)
bool OtherCores::look() {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
    const int core = sched_getcpu();
    if (CPU_COUNT(&allowed) > 1 && core >= 0) CPU_CLR(core, &allowed);
    if (allowed_.size() == sizeof allowed && std::memcmp(allowed_.data(), &allowed, sizeof allowed) == 0) return false;
    const auto* bytes = reinterpret_cast<const std::byte*>(&allowed);
    allowed_.assign(bytes, bytes + sizeof allowed);
    return true;
}

void OtherCores::keep(std::thread& thread) const {
    cpu_set_t allowed;
    if (allowed_.size() != sizeof allowed) return;
    std::memcpy(&allowed, allowed_.data(), sizeof allowed);
    pthread_setaffinity_np(thread.native_handle(), sizeof allowed, &allowed);
}
#else
bool OtherCores::look() { return false; }
void OtherCores::keep(std::thread&) const {}
#endif

double coarse_seconds() {
#if defined(CLOCK_MONOTONIC_COARSE)
    timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
#else
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

#if defined(__x86_64__) || defined(_M_X64)
namespace {

struct Registers {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers identify(unsigned leaf, unsigned part = 0) {
    Registers found;
    if (__get_cpuid_count(leaf, part, &found.eax, &found.ebx, &found.ecx, &found.edx) == 0) return {};
    return found;
}

// Of which registers the system keeps the contents, by XCR0.
unsigned kept_registers() {
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

constexpr bool all_of(unsigned value, unsigned bits) { return (value & bits) == bits; }

}  // namespace

// By Intel's manual, volume 2A, CPUID, leaves 1 and 7. Not by __builtin_cpu_supports, which not every compiler's library has.
X86Features x86_features() {
    constexpr unsigned kFma = 1u << 12, kSaves = 1u << 27, kAvx = 1u << 28, kWide = 0x6, kWider = 0xE6;
    constexpr unsigned kAvx2 = 1u << 5, kAvx512 = 1u << 8 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    X86Features found;
    const unsigned first = identify(1).ecx;
    if (!all_of(first, kSaves | kAvx)) return found;
    const unsigned kept = kept_registers();
    const Registers seventh = identify(7);
    found.avx2 = all_of(first, kFma) && all_of(seventh.ebx, kAvx2) && all_of(kept, kWide);
    found.avx_vnni = seventh.eax >= 1 && all_of(identify(7, 1).eax, 1u << 4);
    found.avx512 = found.avx2 && all_of(seventh.ebx, kAvx512) && all_of(kept, kWider);
    found.avx512_vnni = all_of(seventh.ecx, 1u << 11);
    return found;
}
#else
X86Features x86_features() { return {}; }
#endif

bool has_dot_products() {
#if defined(__aarch64__) && defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__aarch64__) && defined(__APPLE__)
    return true;  // Apple's own processors have had them since the first of a Mac
#else
    return false;
#endif
}

// ---- Files and texts --------------------------------------------------------------------------------------------

OpenFile open_regular(const std::string& path) {
    namespace fs = std::filesystem;
    const fs::path named(std::u8string(path.begin(), path.end()));
    std::error_code error;
    const fs::file_type kind = fs::status(named, error).type();
    if (kind == fs::file_type::not_found) return {nullptr, 0, "No such file or directory"};
    if (kind == fs::file_type::directory) return {nullptr, 0, "it is a folder, expected a file"};
    if (kind == fs::file_type::none) return {nullptr, 0, error.message()};
    if (kind != fs::file_type::regular)
        return {nullptr, 0, "it is a pipe or a device, expected a regular file: save it as one first"};
    const std::uint64_t size = fs::file_size(named, error);
    if (error) return {nullptr, 0, error.message()};
#if defined(_WIN32)
    std::FILE* file = _wfopen(named.c_str(), L"rb");
#else
    std::FILE* file = std::fopen(named.c_str(), "rb");
#endif
    return {file, size, file == nullptr ? std::generic_category().message(errno) : ""};
}

bool seek(std::FILE* file, std::uint64_t place) {
#if defined(_WIN32)
    return _fseeki64(file, static_cast<long long>(place), SEEK_SET) == 0;
#else
    return fseeko(file, static_cast<off_t>(place), SEEK_SET) == 0;
#endif
}

namespace {

// Whether a number is 1 or more, in whatever way it is written: of those beyond all a double has, it says at which end.
bool is_large(std::string_view written) {
    const std::size_t mark = written.find_first_of("eE"), end = std::min(mark, written.size());
    const std::string_view mantissa = written.substr(0, end);
    const std::size_t dot = std::min(mantissa.find('.'), mantissa.size()), first = mantissa.find_first_of("123456789");
    if (first == mantissa.npos) return false;
    const auto place = static_cast<std::int64_t>(dot) - static_cast<std::int64_t>(first) - (first < dot ? 1 : 0);
    if (mark == written.npos) return place >= 0;
    const bool down = written[mark + 1] == '-';
    const std::size_t digits = mark + (down || written[mark + 1] == '+' ? 2 : 1);
    std::int64_t exponent = 0;
    const auto error = std::from_chars(written.data() + digits, written.data() + written.size(), exponent).ec;
    if (error == std::errc::result_out_of_range) exponent = std::numeric_limits<std::int32_t>::max();
    return place + (down ? -exponent : exponent) >= 0;
}

}  // namespace

double to_double(std::string_view written) {
    double value = 0;
#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
    const bool beyond = std::from_chars(written.data(), written.data() + written.size(), value).ec != std::errc();
#else
    std::istringstream stream{std::string(written)};
    stream.imbue(std::locale::classic());
    const bool beyond = !(stream >> value);
#endif
    if (!beyond) return value;
    const double size = is_large(written) ? std::numeric_limits<double>::infinity() : 0.0;
    return written[0] == '-' ? -size : size;
}

}  // namespace secateur::platform
