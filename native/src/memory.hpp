// Memory on cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include <sys/mman.h>

#include "word.hpp"

namespace secateur {

struct Free {
    void operator()(Word* memory) const { std::free(memory); }
};

using Words = std::unique_ptr<Word[], Free>;

// Memory for `count` words, aligned to cache lines; to huge pages where they fill some, which saves most misses of the TLB.
inline Words make_room(std::size_t count, std::size_t* given = nullptr) {
    constexpr std::size_t kHuge = std::size_t{1} << 21;
    const std::size_t needed = count * sizeof(Word) + 64, alignment = needed >= kHuge ? kHuge : 64;
    const std::size_t bytes = (needed + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, bytes);
    if (memory == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (alignment == kHuge) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    if (given != nullptr) *given = bytes;
    return Words(static_cast<Word*>(memory));
}

// The same, all zeros, and what is behind them too.
inline Words make_words(std::size_t count) {
    std::size_t bytes = 0;
    Words words = make_room(count, &bytes);
    std::memset(words.get(), 0, bytes);
    return words;
}

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace secateur
