// Three coders with one interface: Encoder writes decisions, Decoder reads them, Meter only counts what they cost.
//
// bit(probability, value): a decision whose probability of 1 is given in 1/65536, from 1 to 65535. raw(count, value):
// `count` bits that no model can predict, in a plane of their own. Each returns the value.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "model.hpp"

namespace secateur::codec {

// What a decision is about; the meter keeps a sum for each.
enum class Part { mask, sign, level, low0, low1, low2, count };

class Encoder {
   public:
    void about(Part) {}

    int bit(int probability, int value) {
        const std::uint64_t bound = (range_ >> kProbabilityBits) * static_cast<std::uint64_t>(probability);
        if (value) {
            range_ = bound;
        } else {
            if (low_ + bound < low_) carry();
            low_ += bound;
            range_ -= bound;
        }
        if (range_ >> 32 == 0) {
            for (int shift = 56; shift >= 32; shift -= 8) bytes_.push_back(static_cast<std::uint8_t>(low_ >> shift));
            low_ <<= 32;
            range_ <<= 32;
        }
        return value;
    }

    std::uint32_t raw(int count, std::uint32_t value) {
        pending_ |= static_cast<std::uint64_t>(value) << held_;
        for (held_ += count; held_ >= 8; held_ -= 8, pending_ >>= 8) {
            plane_.push_back(static_cast<std::uint8_t>(pending_));
        }
        return value;
    }

    // The shortest bytes that lie in the last range, without the zeros that a reader supplies itself.
    std::vector<std::uint8_t> finish_decisions() {
        for (int kept = 0; kept <= 8; ++kept) {
            const std::uint64_t rest = kept == 0 ? ~0ull : kept == 8 ? 0 : ~0ull >> (8 * kept);
            const std::uint64_t value = (low_ + rest) & ~rest;
            if (value - low_ >= range_) continue;
            if (value < low_) carry();
            for (int i = 0; i < kept; ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (56 - 8 * i)));
            break;
        }
        while (!bytes_.empty() && bytes_.back() == 0) bytes_.pop_back();
        return std::move(bytes_);
    }

    std::vector<std::uint8_t> finish_plane() {
        if (held_ > 0) plane_.push_back(static_cast<std::uint8_t>(pending_));
        return std::move(plane_);
    }

   private:
    void carry() {
        auto at = bytes_.rbegin();
        while (++*at == 0) ++at;  // ends: a carry never leaves the first byte, the sum is below 1
    }

    std::vector<std::uint8_t> bytes_, plane_;
    std::uint64_t low_ = 0, range_ = ~0ull, pending_ = 0;
    int held_ = 0;
};

class Decoder {
   public:
    Decoder(std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> plane) : bytes_(bytes), plane_(plane) {
        code_ = next();
        code_ = code_ << 32 | next();
    }

    void about(Part) {}

    int bit(int probability, int = 0) {
        const std::uint64_t bound = (range_ >> kProbabilityBits) * static_cast<std::uint64_t>(probability);
        const int value = code_ < bound;
        const std::uint64_t keep = ~std::uint64_t{0} + static_cast<std::uint64_t>(value);  // without a branch: 0 for 1
        code_ -= bound & keep;
        range_ = bound ^ ((bound ^ (range_ - bound)) & keep);
        if (range_ >> 32 == 0) {
            range_ <<= 32;
            code_ = code_ << 32 | next();
        }
        return value;
    }

    std::uint32_t raw(int count, std::uint32_t = 0) {
        const std::size_t at = place_ >> 3;
        place_ += static_cast<std::size_t>(count);
        std::uint64_t window = 0;
        if (at + 8 <= plane_.size()) {
            std::memcpy(&window, plane_.data() + at, 8);
            if constexpr (std::endian::native == std::endian::big) window = __builtin_bswap64(window);
        } else {
            for (std::size_t i = at; i < plane_.size(); ++i) window |= std::uint64_t{plane_[i]} << (8 * (i - at));
        }
        const int shift = static_cast<int>((place_ - static_cast<std::size_t>(count)) & 7);
        return static_cast<std::uint32_t>(window >> shift) & ((1u << count) - 1);
    }

    // Both streams must end where they were read to: the plane within its last byte, whose other bits are zero.
    bool ended() const {
        if (read_ < bytes_.size() || (place_ + 7) / 8 != plane_.size()) return false;
        return place_ % 8 == 0 || plane_.back() >> (place_ % 8) == 0;
    }

   private:
    std::uint64_t next() {
        std::uint32_t word = 0;
        if (read_ + 4 <= bytes_.size()) {
            std::memcpy(&word, bytes_.data() + read_, 4);
            if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap32(word);
        } else {
            for (std::size_t i = read_; i < read_ + 4; ++i) word = word << 8 | (i < bytes_.size() ? bytes_[i] : 0u);
        }
        read_ += 4;
        return word;
    }

    std::span<const std::uint8_t> bytes_, plane_;
    std::uint64_t code_ = 0, range_ = ~0ull;
    std::size_t read_ = 0, place_ = 0;
};

class Meter {
   public:
    void about(Part part) { part_ = static_cast<std::size_t>(part); }

    int bit(int probability, int value) {
        costs_[part_] += cost(value ? probability : static_cast<int>(kOne) - probability);
        return value;
    }

    std::uint32_t raw(int, std::uint32_t value) { return value; }

    double bits(Part part) const { return static_cast<double>(costs_[static_cast<std::size_t>(part)]) / 4096; }

   private:
    static std::uint64_t cost(int probability) {
        static const auto table = [] {
            std::array<std::uint16_t, 4096> made{};
            for (int i = 0; i < 4096; ++i) {
                const long bits = std::lround(-4096 * std::log2((i + 0.5) / 4096));
                made[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(bits);
            }
            return made;
        }();
        return table[static_cast<std::size_t>(probability) >> 4];
    }

    std::array<std::uint64_t, static_cast<std::size_t>(Part::count)> costs_{};
    std::size_t part_ = 0;
};

}  // namespace secateur::codec
