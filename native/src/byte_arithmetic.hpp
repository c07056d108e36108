// Bytes and what they stand for. Whoever includes this is compiled so that no product and sum become one instruction
// (CMakeLists.txt), and so gives the same bytes everywhere.
#pragma once

#include <cmath>
#include <cstdint>

namespace secateur {

inline float float_of(std::uint8_t byte, std::int32_t zero, float scale) {
    return static_cast<float>(byte - zero) * scale;
}

// NaN becomes the least. Rounds half to even, as the processor does unless told otherwise.
inline std::uint8_t byte_of(float value, float low, float high, std::int32_t zero) {
    value = value > low ? value : low;
    value = value < high ? value : high;
    return static_cast<std::uint8_t>(static_cast<std::int32_t>(std::nearbyintf(value)) + zero);
}

}  // namespace secateur
