// Bytes of a file → one weight; a codec is a number in the file, and those that are not known are refused.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "graph.hpp"

namespace secateur::packfile {

// A tensor by its bit patterns, row-major.
struct Weight {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::uint8_t> bits;

    template <typename Number>
    std::span<const Number> as() const {
        return {reinterpret_cast<const Number*>(bits.data()), bits.size() / sizeof(Number)};
    }
    template <typename Number>
    std::span<Number> as() {
        return {reinterpret_cast<Number*>(bits.data()), bits.size() / sizeof(Number)};
    }
    std::size_t count() const;
};

using Weights = std::map<std::string, Weight>;

// Throws FormatError for an unknown codec and for content that is not what it should be.
Weight decode(const Stored& stored, Bytes content);

// Of a weight of any format.
std::vector<float> as_floats(const Weight& weight);

// That the numbers of the weights are what their operations demand. Throws GraphError.
void check_numbers(const Graph& graph, const Checked& checked, const Weights& weights);

}  // namespace secateur::packfile
