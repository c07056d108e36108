#include "byte_convolution.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "byte_arithmetic.hpp"

namespace secateur {
namespace {

using Unsigned = std::array<std::uint8_t, 4>;
using Signed = std::array<std::int8_t, 4>;

std::int32_t dot(Word weights, Word inputs) {
    const auto w = std::bit_cast<Signed>(weights.bits);
    const auto x = std::bit_cast<Unsigned>(inputs.bits);
    std::int32_t sum = 0;
    for (int i = 0; i < 4; ++i) sum += w[i] * x[i];
    return sum;
}

}  // namespace

BytePlainConvolution::BytePlainConvolution(const Filter& filter, const ConvolutionShape& shape, const Planes& input,
                                           const Planes& output)
    : shape_(shape), input_(input), output_(output), weights_(filter.bytes), outputs_(filter.outputs()) {
    const std::int64_t per_group = shape.channels / shape.groups,
                       outputs_per_group = std::max<std::int64_t>(1, shape.outputs / shape.groups);
    for (std::int64_t o = 0; o < shape.outputs; ++o) {
        first_.push_back(static_cast<std::int64_t>(taps_.size()));
        for (std::int64_t c = 0; c < filter.span(); ++c)
            for (std::int64_t ky = 0; ky < shape.kernel_y; ++ky)
                for (std::int64_t kx = 0; kx < shape.kernel_x; ++kx) {
                    const std::int64_t tap = ky * shape.kernel_x + kx;
                    if (filter.zero(o, c, tap)) continue;
                    taps_.made().push_back(
                        {filter.word(o, c, tap),
                         static_cast<std::int32_t>(o / outputs_per_group * per_group + filter.first(o) + c),
                         static_cast<std::int32_t>(ky * shape.dilation_y - shape.top),
                         static_cast<std::int32_t>(kx * shape.dilation_x - shape.left)});
                }
    }
    first_.push_back(static_cast<std::int64_t>(taps_.size()));
}

double BytePlainConvolution::cycles(std::int64_t nonzeros, const Planes& output) {
    return 4.0 * static_cast<double>(nonzeros) * static_cast<double>(output.height * output.width * output.images);
}

std::int32_t BytePlainConvolution::sum(std::int64_t output, std::int64_t y, std::int64_t x, int image,
                                       const Word* input) const {
    std::int32_t sum = weights_->bias[output];
    for (std::int64_t tap = 0; tap < weights_->taps; ++tap)
        sum -= weights_->input_zero * weights_->totals[output * weights_->taps + tap];
    for (std::int64_t i = first_[output]; i < first_[output + 1]; ++i) {
        const Tap& tap = taps_.data()[i];
        const std::int64_t iy = y * shape_.stride_y + tap.y, ix = x * shape_.stride_x + tap.x;
        const bool inside = iy >= 0 && iy < input_.height && ix >= 0 && ix < input_.width;
        sum +=
            dot(tap.weight, inside ? input[tap.channel * input_.channel + iy * input_.row + ix * input_.column + image]
                                   : weights_->fill());
    }
    return sum;
}

float BytePlainConvolution::scaled(std::int64_t output, std::int32_t sum, float residual) const {
    return static_cast<float>(sum) * weights_->multipliers[output] + residual;
}

void BytePlainConvolution::store(std::int64_t output, const std::int32_t* sums, std::int64_t at, const Word* residual,
                                 Word* target) const {
    const Requantisation& end = weights_->end;
    if (end.floats) {
        for (std::int64_t i = 0; i < 4 && output + i < outputs_; ++i) {
            const std::int64_t place = (output + i) * output_.channel + at;
            as_floats(target)[place] =
                scaled(output + i, sums[i], residual == nullptr ? 0.0f : as_floats(residual)[place]);
        }
        return;
    }
    const std::int64_t place = output / 4 * output_.channel + at;
    Unsigned added{}, made;
    if (residual != nullptr) added = std::bit_cast<Unsigned>(residual[place].bits);
    for (int i = 0; i < 4; ++i) {
        const float other = residual == nullptr ? 0.0f : float_of(added[i], end.residual_zero, end.residual_scale);
        made[i] = byte_of(scaled(output + i, sums[i], other), end.low, end.high, end.zero);
    }
    target[place] = {std::bit_cast<std::uint32_t>(made)};
}

void BytePlainConvolution::run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual,
                               Word* output, Word*) const {
    for (std::int64_t plane = begin; plane < end; ++plane)
        for (std::int64_t y = 0; y < output_.height; ++y)
            for (std::int64_t x = 0; x < output_.width; ++x)
                for (int image = 0; image < output_.images; ++image) {
                    std::int32_t sums[4];
                    for (int i = 0; i < 4; ++i) sums[i] = sum(plane * 4 + i, y, x, image, input);
                    store(plane * 4, sums, y * output_.row + x * output_.column + image, residual, output);
                }
}

}  // namespace secateur
