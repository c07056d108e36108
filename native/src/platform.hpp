// What systems and standard libraries have in ways of their own, and nothing else knows of: files, memory, fork(), where
// threads run, a clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace secateur::platform {

// ---- Memory -----------------------------------------------------------------------------------------------------

// alignment: a power of two that divides bytes; from a huge page on, huge pages are asked for. Throws std::bad_alloc.
void* allocate(std::size_t bytes, std::size_t alignment);
void release(void* memory);

// ---- Processes and threads --------------------------------------------------------------------------------------

// What is done around fork(), by the thread that calls it: before, and after in the parent and in the child; null: nothing.
// Where there is no fork(), never.
void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)());

// Tells the core that this thread waits for another.
void relax_core();

// This thread does nothing any more, until the process ends.
[[noreturn]] void wait_for_end();

// The cores that threads run on besides the caller's: some systems like to wake a thread on the core of whoever wakes it,
// where it waits until the caller is done.
class OtherCores {
   public:
    // Looks where the caller is. Whether it is another set of cores than before.
    bool look();
    // Keeps a thread on them.
    void keep(std::thread& thread) const;

   private:
    std::vector<std::byte> allowed_;  // as the system has it; empty where it lets nobody choose
};

// Seconds since some time; a few milliseconds wrong where that is cheaper.
double coarse_seconds();

// What an x86 processor and its system let programs use, in the sets that kernels are compiled for: avx2 is with FMA, avx512
// with F, VL, BW, DQ and BMI2, and avx2.
struct X86Features {
    bool avx2 = false, avx_vnni = false, avx512 = false, avx512_vnni = false;
};
X86Features x86_features();

// Whether an AArch64 processor has dot products of eight bits.
bool has_dot_products();

// ---- Files and texts --------------------------------------------------------------------------------------------

struct OpenFile {
    std::FILE* file;  // null where it cannot be opened
    std::uint64_t size;
    std::string wrong;  // why
};

// A regular file to read: neither a pipe, which would be waited for, nor a device, which may never end. path: in UTF-8, on
// every system.
OpenFile open_regular(const std::string& path);

bool seek(std::FILE* file, std::uint64_t place);

// The nearest to a decimal number as JSON has them, whatever the locale; infinite where that is beyond all.
double to_double(std::string_view written);

}  // namespace secateur::platform
