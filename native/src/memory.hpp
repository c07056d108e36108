// Memory on cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "platform.hpp"
#include "word.hpp"

namespace secateur {

struct Free {
    void operator()(Word* memory) const { platform::release(memory); }
};

using Words = std::unique_ptr<Word[], Free>;

// Memory for `count` words, aligned to cache lines; to huge pages where they fill some, which saves most misses of the TLB.
inline Words make_room(std::size_t count, std::size_t* given = nullptr) {
    constexpr std::size_t kHuge = std::size_t{1} << 21;
    const std::size_t needed = count * sizeof(Word) + 64, alignment = needed >= kHuge ? kHuge : 64;
    const std::size_t bytes = (needed + alignment - 1) / alignment * alignment;
    Words words(static_cast<Word*>(platform::allocate(bytes, alignment)));
    if (given != nullptr) *given = bytes;
    return words;
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
