// Operations on values of eight bits whose time does not matter much, byte by byte through tables made when the plan is made.
// Every offset is that of `images` words side by side.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels.hpp"
#include "kinds.hpp"
#include "storage.hpp"

namespace secateur {

// Where an element lies: which byte of which words.
struct BytePlace {
    std::int64_t word;
    int byte;
};

// Of every element, row-major. whole: the shape in elements.
std::vector<BytePlace> byte_places(const Shape& whole, const Storage& storage);

// Words put together from bytes of others; places count from the beginning of the arena.
class ByteMoves {
   public:
    // Element i of the target, whose places are given, is what lies at sources[i].
    ByteMoves(const std::vector<BytePlace>& targets, const std::vector<BytePlace>& sources);
    std::int64_t items() const { return static_cast<std::int64_t>(moves_.size()); }
    void run(std::int64_t begin, std::int64_t end, Word* arena, int images) const;

   private:
    struct Move {
        std::int64_t target;
        std::array<std::int64_t, 4> source;  // −1: nothing
        std::array<std::uint8_t, 4> shift;
    };
    std::vector<Move> moves_;
};

// Means of bytes: each target is one of several sources, divided by their number.
class ByteMeans {
   public:
    struct Window {
        BytePlace target;
        std::vector<BytePlace> sources;
    };
    ByteMeans(std::vector<Window> windows, const kind::ByteAverage& average)
        : windows_(std::move(windows)), average_(average) {}
    std::int64_t items() const { return static_cast<std::int64_t>(windows_.size()); }
    void run(const Word* source, Word* target, int images) const;

   private:
    std::vector<Window> windows_;
    kind::ByteAverage average_;
};

// Which elements of a value, row-major, are averaged into which of another.
using Averaged = std::vector<std::vector<std::int64_t>>;
Averaged averaged_over(const Shape& source, const std::vector<std::int64_t>& axes);
Averaged averaged_adaptively(const Shape& source, const Shape& target);

// What a sum of so many bytes is multiplied by.
float factor_of(const kind::ByteAverage& average, std::int64_t count);

// Of two values of which one is repeated along the axis of channels.
struct ByteBroadcast {
    struct Pair {
        BytePlace left, right, target;
    };
    std::vector<Pair> pairs;
    kind::BytePair kind;

    void run(const Word* left, const Word* right, Word* target, int images) const;
};

// What a table has for each byte of so many words.
void look_up_bytes(const std::array<std::uint8_t, 256>& table, const Word* from, Word* to, std::int64_t count);

}  // namespace secateur
