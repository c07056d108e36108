#include "convolution_problem.hpp"

namespace secateur {

// A 1×1 convolution of contiguous planes sees one long row.
Problem make_problem(ConvolutionShape shape, Planes input, Planes output) {
    const bool pointwise = shape.kernel_y == 1 && shape.kernel_x == 1 && shape.stride_y == 1 && shape.stride_x == 1 &&
                           shape.top == 0 && shape.left == 0 && input.height == output.height &&
                           input.width == output.width;
    const bool planar = output.images == 1;
    const auto contiguous = [&](const Planes& p) { return planar ? p.row == output.row : p.row == p.width * p.column; };
    if (pointwise && contiguous(input) && contiguous(output)) {
        for (Planes* each : {&input, &output}) {
            each->width = planar ? each->height * each->row : each->height * each->width;
            each->height = 1;
            each->row = each->width * each->column;
        }
    }
    return {shape, input, output,
            Axis(shape.kernel_y, shape.stride_y, shape.dilation_y, shape.top, input.height, output.height),
            Axis(shape.kernel_x, shape.stride_x, shape.dilation_x, shape.left, input.width, output.width)};
}

Counts count(const Filter& filter, const Problem& problem) {
    Counts counts;
    const ConvolutionShape& s = problem.shape;
    const std::int64_t taps = s.kernel_y * s.kernel_x;
    std::vector<std::int64_t> used;
    for (std::int64_t ky = 0; ky < s.kernel_y; ++ky)
        for (std::int64_t kx = 0; kx < s.kernel_x; ++kx)
            if (problem.y.used[ky] && problem.x.used[kx]) used.push_back(ky * s.kernel_x + kx);
    const std::int64_t seen = static_cast<std::int64_t>(used.size());
    if (seen == taps) {
        counts.nonzero = filter.nonzero_words();
    } else {
        for (std::int64_t o = 0; o < s.outputs; ++o)
            for (std::int64_t c = 0; c < filter.span(); ++c)
                for (std::int64_t tap : used) counts.nonzero += !filter.zero(o, c, tap);
    }
    counts.used = s.outputs * (s.channels / s.groups) * seen;
    return counts;
}

}  // namespace secateur
