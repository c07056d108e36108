#include "plain_convolution.hpp"

#include <algorithm>

namespace secateur {
namespace {

struct Range {
    std::int64_t first, end;
};

// The outputs i whose input i·stride + start exists.
Range seen(std::int64_t start, std::int64_t stride, std::int64_t inputs, std::int64_t outputs) {
    const std::int64_t first = start >= 0 ? 0 : (stride - 1 - start) / stride;
    const std::int64_t end = start >= inputs ? 0 : (inputs - 1 - start) / stride + 1;
    return {first, std::min(end, outputs)};
}

}  // namespace

PlainConvolution::PlainConvolution(const Filter& filter, Clamp clamp, const ConvolutionShape& shape,
                                   const Planes& input, const Planes& output)
    : shape_(shape), input_(input), output_(output), bias_(filter.bias), clamp_(clamp) {
    const std::int64_t per_group = shape.channels / shape.groups,
                       outputs_per_group = std::max<std::int64_t>(1, shape.outputs / shape.groups);
    const float* weight = filter.weight.data;
    for (std::int64_t o = 0; o < shape.outputs; ++o) {
        first_.push_back(static_cast<std::int64_t>(taps_.size()));
        const float scale = filter.scale.empty() ? 1.0f : filter.scale[o];
        for (std::int64_t c = 0; c < per_group; ++c)
            for (std::int64_t ky = 0; ky < shape.kernel_y; ++ky)
                for (std::int64_t kx = 0; kx < shape.kernel_x; ++kx, ++weight)
                    if (*weight != 0.0f)
                        taps_.made().push_back({*weight * scale,
                                                static_cast<std::int32_t>(o / outputs_per_group * per_group + c),
                                                static_cast<std::int32_t>(ky * shape.dilation_y - shape.top),
                                                static_cast<std::int32_t>(kx * shape.dilation_x - shape.left)});
    }
    first_.push_back(static_cast<std::int64_t>(taps_.size()));
}

double PlainConvolution::cycles(std::int64_t nonzeros, const Planes& output) {
    return 0.5 * static_cast<double>(nonzeros) * static_cast<double>(output.height * output.width * output.images);
}

void PlainConvolution::run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual, Word* output,
                           Word*) const {
    for (std::int64_t o = begin; o < end; ++o) {
        float* plane = as_floats(output) + o * output_.channel;
        for (std::int64_t y = 0; y < output_.height; ++y)
            for (std::int64_t x = 0; x < output_.width; ++x)
                std::fill_n(plane + y * output_.row + x * output_.column, output_.images, bias_[o]);
        for (std::int64_t tap = first_[o]; tap < first_[o + 1]; ++tap) add(taps_.data()[tap], as_floats(input), plane);
        finish(residual == nullptr ? nullptr : as_floats(residual) + o * output_.channel, plane);
    }
}

void PlainConvolution::add(const Tap& tap, const float* input, float* output) const {
    const Range rows = seen(tap.y, shape_.stride_y, input_.height, output_.height);
    const Range columns = seen(tap.x, shape_.stride_x, input_.width, output_.width);
    const bool one_run = shape_.stride_x == 1 && input_.column == input_.images && output_.column == input_.images;
    const std::int64_t length = one_run ? (columns.end - columns.first) * input_.images : input_.images;
    for (std::int64_t y = rows.first; y < rows.end; ++y) {
        const float* from = input + tap.channel * input_.channel + (y * shape_.stride_y + tap.y) * input_.row;
        float* to = output + y * output_.row;
        for (std::int64_t x = columns.first; x < columns.end; x += one_run ? columns.end - columns.first : 1) {
            const float* source = from + (x * shape_.stride_x + tap.x) * input_.column;
            float* target = to + x * output_.column;
            for (std::int64_t i = 0; i < length; ++i) target[i] += tap.weight * source[i];
        }
    }
}

void PlainConvolution::finish(const float* residual, float* output) const {
    for (std::int64_t y = 0; y < output_.height; ++y)
        for (std::int64_t x = 0; x < output_.width; ++x)
            for (std::int64_t at = y * output_.row + x * output_.column, end = at + output_.images; at < end; ++at) {
                const float value = residual == nullptr ? output[at] : output[at] + residual[at];
                const float high = clamp_.low > value ? clamp_.low : value;
                output[at] = clamp_.high < high ? clamp_.high : high;
            }
}

}  // namespace secateur
