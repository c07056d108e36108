// Between floats and the bytes that stand for them.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"
#include "kinds.hpp"
#include "storage.hpp"

namespace secateur {

// Where the four numbers of words lie, `count` words at a time; lines: the numbers of a row side by side, as its bytes are.
struct Crossing {
    struct Group {
        std::int64_t floats[4], words;  // −1: no such channel
    };
    std::vector<Group> groups;
    std::int64_t count;
    bool lines;
};

Crossing crossing_of(const Shape& whole, const Storage& floats, const Storage& words, int images);

// All groups, from and to where the values lie.
void quantise_groups(const Bytes& bytes, const Crossing& crossing, const kind::Quantise& how, const float* floats,
                     Word* words);
// Some of them.
void quantise_groups(const Bytes& bytes, const Crossing& crossing, const kind::Quantise& how, std::int64_t begin,
                     std::int64_t end, const float* floats, Word* words);

}  // namespace secateur
