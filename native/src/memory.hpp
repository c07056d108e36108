// Memory on cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include <sys/mman.h>

namespace secateur {

struct Free {
    void operator()(float* memory) const { std::free(memory); }
};

using Floats = std::unique_ptr<float[], Free>;

// Memory for `count` floats, aligned to cache lines; to huge pages where they fill some, which saves most misses of the TLB.
inline Floats make_room(std::size_t count, std::size_t* given = nullptr) {
    constexpr std::size_t kHuge = std::size_t{1} << 21;
    const std::size_t needed = count * sizeof(float) + 64, alignment = needed >= kHuge ? kHuge : 64;
    const std::size_t bytes = (needed + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, bytes);
    if (memory == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (alignment == kHuge) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    if (given != nullptr) *given = bytes;
    return Floats(static_cast<float*>(memory));
}

// The same, all zeros, and what is behind them too.
inline Floats make_floats(std::size_t count) {
    std::size_t bytes = 0;
    Floats floats = make_room(count, &bytes);
    std::memset(floats.get(), 0, bytes);
    return floats;
}

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace secateur
