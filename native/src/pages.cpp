#include "pages.hpp"

#if defined(__linux__)

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace secateur::pages {
namespace {

// From <linux/userfaultfd.h> and <linux/fs.h>, which are older than the kernel on many a machine.
struct Api {
    std::uint64_t api, features, ioctls;
};
struct Range {
    std::uint64_t start, length;
};
struct Registration {
    Range range;
    std::uint64_t mode, ioctls;
};
struct Protection {
    Range range;
    std::uint64_t mode;
};
struct Scan {
    std::uint64_t size, flags, start, end, walk_end, found, found_length, most_pages;
    std::uint64_t inverted, all_of, any_of, reported;
};
struct Found {
    std::uint64_t start, end, categories;
};

constexpr unsigned long kSetApi = _IOWR(0xAA, 0x3F, Api), kRegister = _IOWR(0xAA, 0x00, Registration);
constexpr unsigned long kProtect = _IOWR(0xAA, 0x06, Protection), kScan = _IOWR('f', 16, Scan);
constexpr int kUserModeOnly = 1, kPopulate = 22;  // MADV_POPULATE_READ
constexpr std::uint64_t kVersion = 0xAA, kMarksWrites = 1 << 15, kRegisterWrites = 2, kProtectWrites = 1;
constexpr std::uint64_t kMarkable = 1, kWritten = 2, kOfFile = 4, kPresent = 8;

// What the kernel has opened for one process. A child of fork() has another memory, and opens its own.
struct Channel {
    pid_t process = 0;
    int faults = -1, map = -1;

    bool open() const { return faults >= 0 && map >= 0; }
};

Channel opened() {
    Channel channel{getpid()};
    if (sysconf(_SC_PAGESIZE) != static_cast<long>(kPage)) return channel;
    const int faults = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | kUserModeOnly));
    if (faults < 0) return channel;
    Api api{kVersion, kMarksWrites, 0};
    if (ioctl(faults, kSetApi, &api) != 0) {
        close(faults);
        return channel;
    }
    channel.faults = faults, channel.map = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return channel;
}

// Callers hold a lock. A child leaves its parent's descriptors alone: they are of the parent's memory.
const Channel& channel() {
    static Channel held;
    return held.process == getpid() ? held : held = opened();
}

Range range_of(const Stretch& pages) { return {reinterpret_cast<std::uintptr_t>(pages.begin), pages.bytes}; }

}  // namespace

bool protect(const Stretch& pages) {
    const Channel& kernel = channel();
    if (!kernel.open()) return false;
    madvise(const_cast<std::byte*>(pages.begin), pages.bytes, kPopulate);  // what was never touched has no page to mark
    Registration registration{range_of(pages), kRegisterWrites, 0};
    Protection protection{range_of(pages), kProtectWrites};
    return ioctl(kernel.faults, kRegister, &registration) == 0 && ioctl(kernel.faults, kProtect, &protection) == 0;
}

bool clean(const Stretch& pages) {
    const Channel& kernel = channel();
    if (!kernel.open()) return false;
    const auto [start, length] = range_of(pages);
    Found found{};
    Scan scan{sizeof(Scan),
              0,
              start,
              start + length,
              0,
              reinterpret_cast<std::uintptr_t>(&found),
              1,
              1,
              kPresent | kMarkable,
              0,
              kWritten | kOfFile | kPresent | kMarkable,
              kWritten};
    return ioctl(kernel.map, kScan, &scan) == 0;
}

}  // namespace secateur::pages

#else

namespace secateur::pages {

bool protect(const Stretch&) { return false; }
bool clean(const Stretch&) { return false; }

}  // namespace secateur::pages

#endif
