// Operations whose time does not matter much: they copy, average and normalise through tables of offsets made when the
// plan is made. Every offset is that of `images` floats side by side.
#pragma once

#include <cstdint>
#include <vector>

#include "secateur/graph.hpp"
#include "secateur/program.hpp"
#include "storage.hpp"

namespace secateur {

using Offsets = std::vector<std::int64_t>;

Offsets offsets_of(const Shape& dims, const std::vector<std::int64_t>& strides);  // row-major
Offsets dense_offsets(std::int64_t count);
// Strides of `source` seen as `dims`, by NumPy's rules of broadcasting.
std::vector<std::int64_t> broadcast(const Storage& source, const Shape& dims);

struct Segment {
    std::int64_t source, target, length;
};

std::vector<Segment> segments_of(const Offsets& sources, const Offsets& targets, int images);
void copy_segments(const std::vector<Segment>& segments, const float* source, float* target);

void combine(Binary kind, Clamp clamp, const float* left, const Offsets& lefts, const float* right, const Offsets& rights,
             float* target, const Offsets& targets, int images);

// What is averaged into each target: the elements of a form, counted from a source.
struct Windows {
    struct Window {
        std::int64_t target, source;
        std::size_t form;
    };
    std::vector<Window> windows;
    std::vector<Offsets> forms;
};

Windows adaptive_windows(const Storage& source, const Storage& target);
Windows axis_windows(const Storage& source, const Storage& target, const std::vector<std::int64_t>& axes);
void average_windows(const Windows& windows, std::int64_t begin, std::int64_t end, const float* source, float* target,
                     int images);

// The axes [first, last) of a value, for every position in its other axes.
struct Lines {
    Offsets starts, steps;
};

Lines lines_of(const Storage& storage, std::int64_t first, std::int64_t last);
void softmax_lines(const Lines& lines, const float* source, float* target, int images);
void normalise_lines(const Lines& lines, const std::vector<float>& weight, const std::vector<float>& bias, double epsilon,
                     const float* source, float* target, int images);

}  // namespace secateur
