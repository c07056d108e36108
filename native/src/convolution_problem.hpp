// What a convolution has to compute, in the terms that its layouts are made from.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "convolution.hpp"

namespace secateur {

// One dimension of the kernel. Output i reads input i·stride + k·dilation − before at tap k: in units of the stride,
// that is element i + shift[k] of the inputs whose index has a certain residue. Taps that see only padding are
// unused; the residues of the others are numbered as classes.
struct Axis {
    std::int64_t stride, before, size, out;
    std::vector<bool> used;
    std::vector<std::int64_t> cls, shift;
    std::vector<std::int64_t> residue, low, high;  // per class: smallest and largest shift

    Axis(std::int64_t kernel, std::int64_t stride_, std::int64_t dilation, std::int64_t before_, std::int64_t size_,
         std::int64_t out_)
        : stride(stride_), before(before_), size(size_), out(out_) {
        for (std::int64_t k = 0; k < kernel; ++k) {
            bool any = false;
            for (std::int64_t i = 0; i < out && !any; ++i) {
                const std::int64_t at = i * stride + k * dilation - before;
                any = at >= 0 && at < size;
            }
            used.push_back(any);
            const std::int64_t rest = k * dilation % stride, q = k * dilation / stride;
            shift.push_back(q);
            cls.push_back(-1);
            if (!any) continue;
            const auto found = std::find(residue.begin(), residue.end(), rest);
            cls.back() = found - residue.begin();
            if (found == residue.end()) residue.push_back(rest), low.push_back(q), high.push_back(q);
            low[cls.back()] = std::min(low[cls.back()], q), high[cls.back()] = std::max(high[cls.back()], q);
        }
    }

    std::int64_t classes() const { return static_cast<std::int64_t>(residue.size()); }
    // How many elements of a class the outputs [i, i + count) read, for any i.
    std::int64_t length(std::int64_t c, std::int64_t count) const { return high[c] - low[c] + count; }
    // The input index of element j of class c when the tile starts at output i.
    std::int64_t index(std::int64_t c, std::int64_t i, std::int64_t j) const {
        return (i + low[c] + j) * stride + residue[c] - before;
    }
};

// Packing a piece of a row (planar) that has so many shifted copies.
inline double row_cycles(const Cycles& cycles, std::int64_t stride, double copies) {
    return 3 + (stride == 1 ? cycles.shifted_row : cycles.strided_row) * copies;
}

inline std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Problem {
    ConvolutionShape shape;
    Planes input, output;
    Axis y, x;
};

Problem make_problem(ConvolutionShape shape, Planes input, Planes output);

struct Counts {
    std::int64_t used = 0, nonzero = 0;  // words of weights whose taps are used
};

Counts count(const Filter& filter, const Problem& problem);

}  // namespace secateur
