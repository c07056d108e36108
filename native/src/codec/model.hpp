// Probabilities of binary decisions: cells that learn them, and a mixer that weighs several cells.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace secateur::codec {

constexpr int kProbabilityBits = 16;
constexpr std::uint32_t kOne = 1u << kProbabilityBits;

// Tables of docs/format.md: logits are in 1/256 nats.
constexpr int kSquashLimit = 3071;
struct Tables {
    std::array<std::uint16_t, 2 * kSquashLimit + 1> squash;  // probability of 1, in 1/65536, of logit + kSquashLimit
    std::array<std::int16_t, 4096> stretch;                  // logit of a probability in 1/4096
    std::array<std::uint16_t, 1024> rate;  // how far a cell that has seen n decisions moves, in 1/65536
};
extern const Tables kTables;

inline int squash(std::int64_t logit) {
    return kTables
        .squash[static_cast<std::size_t>(std::clamp<std::int64_t>(logit, -kSquashLimit, kSquashLimit) + kSquashLimit)];
}

// A probability of 1 in 22 bits above the number of decisions seen in 10 bits.
class Cell {
   public:
    constexpr Cell() : Cell(1u << 21) {}
    constexpr explicit Cell(std::uint32_t probability22, std::uint32_t seen = 0) : state_(probability22 << 10 | seen) {}

    bool fresh() const { return (state_ & 1023u) == 0; }
    int stretched() const { return kTables.stretch[state_ >> 20]; }
    int probability() const { return static_cast<int>(std::max(state_ >> 16, 1u)); }

    void learn(int bit) {
        const std::uint32_t seen = state_ & 1023u;
        const std::int64_t old = state_ >> 10;
        const std::int64_t target = bit ? 1 << 22 : 0;
        const std::int64_t now = old + (((target - old) * kTables.rate[seen]) >> 16);
        state_ = static_cast<std::uint32_t>(now) << 10 | std::min(seen + 1, 1023u);
    }

   private:
    std::uint32_t state_;
};

// Logistic mixing: the logit is a base and the weighted differences of the inputs from it; weights learn by gradient.
template <int Inputs>
class Mixer {
   public:
    // A fresh cell (or none) says nothing.
    void offer(int input, const Cell* cell, int base) {
        differences_[input] = cell == nullptr || cell->fresh() ? 0 : cell->stretched() - base;
    }

    int probability(int base) {
        std::int64_t sum = 0;
        for (int i = 0; i < Inputs; ++i) sum += static_cast<std::int64_t>(differences_[i]) * weights_[i];
        return probability_ = squash(base + (sum >> 16));
    }

    void learn(int bit) {
        const int error = (bit << kProbabilityBits) - probability_;
        for (int i = 0; i < Inputs; ++i) {
            const int step = (differences_[i] * error + (1 << 14)) >> 15;
            weights_[i] = std::clamp(weights_[i] + step, -kMost, kMost);
        }
    }

   private:
    static constexpr int kMost = 1 << 20;

    static constexpr std::array<int, Inputs> start() {
        std::array<int, Inputs> weights{};
        weights.fill(3 << 13);
        return weights;
    }

    std::array<int, Inputs> weights_ = start();  // in 1/65536
    std::array<int, Inputs> differences_{};
    int probability_ = 0;
};

}  // namespace secateur::codec
