// What a program reads from end to end in every run: weights, offsets, tables, side by side.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "memory.hpp"

namespace secateur {

// An array that is made once and then only read: a vector of its own until it is moved to a shelf.
template <typename T>
class Shelved {
   public:
    std::vector<T>& made() { return made_; }
    const T* data() const { return moved_ == nullptr ? made_.data() : moved_; }
    std::size_t size() const { return moved_ == nullptr ? made_.size() : size_; }

    void move_to(std::byte* place) {
        size_ = made_.size();
        if (size_ > 0) std::memcpy(place, made_.data(), size_ * sizeof(T));
        moved_ = reinterpret_cast<const T*>(place);
        std::vector<T>().swap(made_);
    }

   private:
    std::vector<T> made_;
    const T* moved_ = nullptr;
    std::size_t size_ = 0;
};

// Moves arrays into one piece of memory, on huge pages if it fills any: single images read their weights from memory, and
// every page of 4 KB is a miss of the TLB then, and an end to what the processor fetches unasked.
class Shelf {
   public:
    // The array must live until settle().
    template <typename T>
    void add(Shelved<T>& array) {
        const std::size_t bytes =
            static_cast<std::size_t>(round_up(static_cast<std::int64_t>(array.size() * sizeof(T)), 64));
        movers_.emplace_back(bytes_, [&array](std::byte* place) { array.move_to(place); });
        bytes_ += bytes;
    }

    // The memory to be kept as long as the arrays are read.
    Words settle() {
        Words memory = make_room(bytes_ / sizeof(Word));
        for (const auto& [place, move] : movers_) move(reinterpret_cast<std::byte*>(memory.get()) + place);
        movers_.clear();
        return memory;
    }

   private:
    std::vector<std::pair<std::size_t, std::function<void(std::byte*)>>> movers_;
    std::size_t bytes_ = 0;
};

}  // namespace secateur
