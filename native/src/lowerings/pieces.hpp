// A step in pieces for several threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "storage.hpp"

namespace secateur {

// Into how many `size` words are split.
inline std::int64_t pieces_of(std::int64_t size) { return std::clamp<std::int64_t>(size / 4096, 1, 64); }

// Where a piece of them begins: on cache lines.
inline std::int64_t edge_of(std::int64_t size, std::int64_t piece, std::int64_t all) {
    return piece == all ? size : size * piece / all / 16 * 16;
}

// Of a value that is computed element by element: pieces of all its words, or, where parts have borders, their rows.
struct ElementPieces {
    std::int64_t items, size, rows = 0, row = 0, plane = 0, first = 0;  // rows: of a part

    explicit ElementPieces(const Storage& storage) : items(pieces_of(storage.size)), size(storage.size) {
        if (!storage.folded || storage.origin == 0) return;
        rows = storage.part_height(), row = storage.strides[1], plane = storage.strides[0], first = storage.origin;
        items = storage.dims[0] * rows, size = storage.part_width() * storage.strides[2];
    }

    // Calls run(first, count) for stretches of words.
    template <typename Run>
    void visit(std::int64_t begin, std::int64_t end, const Run& run) const {
        if (rows == 0) {
            const std::int64_t from = edge_of(size, begin, items);
            return run(from, edge_of(size, end, items) - from);
        }
        for (std::int64_t item = begin; item < end; ++item) run(first + item / rows * plane + item % rows * row, size);
    }
};

}  // namespace secateur
