// Numbers in eight bits: the arithmetic of network/quantisation.py, one rounding to float32 at a time.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace secateur::packfile {

constexpr std::int64_t kLargestSum = (std::int64_t{1} << 31) - 1;
constexpr std::int64_t kFarthest = 255;  // from the zero point
constexpr double kSmallestScale = 0x1p-126, kLargestScale = 0x1p126;

// The least and the most that an integer format of eight bits holds.
inline std::pair<std::int64_t, std::int64_t> bounds_of(const std::string& element) {
    return element == "int8" ? std::pair<std::int64_t, std::int64_t>{-128, 127}
                             : std::pair<std::int64_t, std::int64_t>{0, 255};
}

// A number as float32 has it.
inline double in_single(double number) { return static_cast<double>(static_cast<float>(number)); }

// What takes one scale to another; it may be infinite.
inline float multiplier(double numerator, double denominator) { return static_cast<float>(numerator / denominator); }

}  // namespace secateur::packfile
