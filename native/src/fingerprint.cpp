#include "secateur/fingerprint.hpp"

#include <array>
#include <bit>
#include <cstring>

namespace secateur {
namespace {

constexpr std::size_t kLanes = 8, kBlock = kLanes * sizeof(std::uint64_t);
constexpr std::size_t kAhead = 2048;  // bytes: the chains are too long for the processor to look that far by itself
constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15;

// One to one in the state and in the word. Without the turn a change of the highest bit would stay in the highest bit,
// where the next one like it (a second sign) takes it back.
constexpr std::uint64_t stirred(std::uint64_t state, std::uint64_t word) {
    return (std::rotl(state, 29) ^ word) * kOdd;
}

using Lanes = std::array<std::uint64_t, kLanes>;

void stir_block(Lanes& lanes, const std::byte* from) {
    Lanes words;
    std::memcpy(words.data(), from, kBlock);
    for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = stirred(lanes[i], words[i]);
}

void stir(Lanes& lanes, const Stretch& stretch) {
    std::size_t done = 0;
    for (; done + kBlock <= stretch.bytes; done += kBlock) {
        __builtin_prefetch(stretch.begin + done + kAhead);
        stir_block(lanes, stretch.begin + done);
    }
    if (done < stretch.bytes) {
        std::array<std::byte, kBlock> rest{};
        std::memcpy(rest.data(), stretch.begin + done, stretch.bytes - done);
        stir_block(lanes, rest.data());
    }
    lanes[0] = stirred(lanes[0], stretch.bytes);
}

}  // namespace

std::uint64_t fingerprint(std::span<const Stretch> stretches) {
    Lanes lanes;
    for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = i + 1;
    for (const Stretch& each : stretches) stir(lanes, each);
    std::uint64_t found = stretches.size();
    for (std::uint64_t each : lanes) found = stirred(found, each);
    return found ^ (found >> 32);
}

}  // namespace secateur
