// Memory on cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace secateur {

struct Free {
    void operator()(float* memory) const { std::free(memory); }
};

using Floats = std::unique_ptr<float[], Free>;

// `count` zeros, aligned to 64 bytes.
inline Floats make_floats(std::size_t count) {
    const std::size_t bytes = (count * sizeof(float) + 63) / 64 * 64 + 64;
    void* memory = std::aligned_alloc(64, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0, bytes);
    return Floats(static_cast<float*>(memory));
}

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace secateur
