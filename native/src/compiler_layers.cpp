#include "compiler.hpp"

#include <algorithm>
#include <array>
#include <memory>

#include "plain_convolution.hpp"
#include "winograd.hpp"

namespace secateur {
namespace {

std::string layer_of(const Operation& operation) {
    if (operation.kind == Kind::kLinear) return "fully connected";
    const Shape& weight = operation.weight.shape;
    const std::string kind = operation.groups == 1 ? " convolution" : weight[1] == 1 ? " depthwise convolution" : " grouped convolution";
    return std::to_string(weight[2]) + "×" + std::to_string(weight[3]) + kind;
}

// Into how many parts to divide items so that threads have nearly as much to do; each part reads all inputs.
int parts_for(std::int64_t items, int threads) {
    constexpr double kEnough = 0.8;
    for (int parts = 1; parts < threads; ++parts) {
        const std::int64_t rounds = (items * parts + threads - 1) / threads;
        if (static_cast<double>(items * parts) >= kEnough * static_cast<double>(rounds * threads)) return parts;
    }
    return threads;
}

}  // namespace

void Compiler::report_weights(StepReport& report, const Operation& operation, std::int64_t places, std::int64_t nonzeros, std::size_t bytes) {
    const std::int64_t all = elements(operation.weight.shape);
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < all; ++i) kept += operation.weight.data[i] != 0.0f;
    report.density = all == 0 ? 0 : static_cast<double>(kept) / static_cast<double>(all);
    report.multiply_adds = all * places;
    report.nonzero_multiply_adds = nonzeros * places;
    report.bytes = bytes;
    report.layer = layer_of(operation);
}

void Compiler::add_convolution(const Operation& operation) {
    const Storage &in = storages_[operation.inputs[0]], &out = storages_[operation.output];
    if (images_ == 1 && few_pixels(in.dims, out.dims, kernels_.lanes)) return add_few_pixels(operation);
    const Site site = convolution_site(operation, in, out, images_);
    if (images_ == 1 && tiny(out.dims, kernels_.lanes)) return add_plain(operation, site);
    add_tiles(operation, site);
}

void Compiler::add_tiles(const Operation& operation, const Site& site) {
    const Border border = folded_.filled[operation.output] ? border_of(storages_[operation.output], kernels_.lanes) : Border{};
    const auto tiles = Convolution::choices(operation, site.shape, site.input, site.output, kernels_, costs_);
    const auto winograds = Winograd::choices(site.shape, site.input, site.output, kernels_, costs_);
    if (!winograds.empty() && (tiles.empty() || winograds.front().cycles < tiles.front().cycles)) {
        const auto winograd = std::make_shared<Winograd>(operation, site.shape, site.input, site.output, kernels_, winograds.front(), border);
        return add_layer(operation, site, [&](int parts) {
            winograd->divide(parts);
            return winograd;
        });
    }
    if (tiles.empty()) return add_plain(operation, site);
    add_layer(operation, site, [&](int parts) {
        return std::make_shared<Convolution>(operation, site.shape, site.input, site.output, kernels_, costs_, tiles.front(), parts, border);
    });
}

void Compiler::add_plain(const Operation& operation, const Site& site) {
    add_layer(operation, site, [&](int) { return std::make_shared<PlainConvolution>(operation, site.shape, site.input, site.output); });
    if (folded_.filled[operation.output]) add_border(operation.output);
}

template <typename Make>
void Compiler::add_layer(const Operation& operation, const Site& site, const Make& make) {
    auto convolution = make(1);
    if (const int parts = parts_for(convolution->items(), threads_); parts > 1) convolution = make(parts);
    convolution->shelve(shelf_);
    need_scratch(convolution->scratch_floats());
    Step& step = push(operation, convolution->describe());
    step.items = convolution->items();
    step.report.predicted_cycles = convolution->cycles();
    const std::int64_t places = elements(network_.shapes[operation.output]) / operation.weight.shape[0];
    report_weights(step.report, operation, places, convolution->nonzeros(), convolution->bytes());
    const std::int64_t input = place(operation.inputs[0]) + site.input_offset, output = place(operation.output) + site.output_offset;
    const std::int64_t residual = operation.residual ? place(operation.inputs.back()) + site.output_offset : -1;
    step.run = [=](const Frame& frame, std::int64_t begin, std::int64_t end, float* scratch) {
        float* arena = frame.arena.get();
        convolution->run(begin, end, arena + input, residual < 0 ? nullptr : arena + residual, arena + output, scratch);
    };
}

void Compiler::add_few_pixels(const Operation& operation) {
    const Storage &in = storages_[operation.inputs[0]], &out = storages_[operation.output];
    const ConvolutionShape s = convolution_site(operation, in, out, 1).shape;
    const std::int64_t pixels = out.dims[1] * out.dims[2];
    std::vector<std::int32_t> gather;
    std::vector<std::array<std::int64_t, 3>> seen;  // channel, row, column
    std::vector<std::int64_t> tap_of;               // [input pixel][output pixel], -1: none
    for (std::int64_t iy = 0; iy < in.dims[1]; ++iy)
        for (std::int64_t ix = 0; ix < in.dims[2]; ++ix)
            for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
                const std::int64_t y = iy + s.top - pixel / out.dims[2] * s.stride_y, x = ix + s.left - pixel % out.dims[2] * s.stride_x;
                const bool meets = y >= 0 && x >= 0 && y % s.dilation_y == 0 && x % s.dilation_x == 0 &&
                                   y / s.dilation_y < s.kernel_y && x / s.dilation_x < s.kernel_x;
                tap_of.push_back(meets ? y / s.dilation_y * s.kernel_x + x / s.dilation_x : -1);
            }
    const auto used = [&](std::int64_t at) {
        const auto first = tap_of.begin() + at * pixels;
        return std::any_of(first, first + pixels, [](std::int64_t tap) { return tap >= 0; });
    };
    for (std::int64_t c = 0; c < in.dims[0]; ++c)
        for (std::int64_t iy = 0; iy < in.dims[1]; ++iy)
            for (std::int64_t ix = 0; ix < in.dims[2]; ++ix) {
                if (!used(iy * in.dims[2] + ix)) continue;
                gather.push_back(static_cast<std::int32_t>(c * in.strides[0] + iy * in.strides[1] + ix * in.strides[2]));
                seen.push_back({c, iy, ix});
            }
    bool contiguous = true;
    for (std::size_t i = 0; i < gather.size(); ++i) contiguous = contiguous && gather[i] == static_cast<std::int32_t>(i);
    const std::int64_t per_group = s.channels / s.groups, outputs_per_group = s.outputs / s.groups, taps = s.kernel_y * s.kernel_x;
    const auto weight = [&](std::int64_t row, std::int64_t at) {
        const std::int64_t output = row / pixels;
        const auto [channel, iy, ix] = seen[at];
        const std::int64_t within = channel - output / outputs_per_group * per_group;
        const std::int64_t tap = tap_of[(iy * in.dims[2] + ix) * pixels + row % pixels];
        if (within < 0 || within >= per_group || tap < 0) return 0.0f;
        const float value = operation.weight.data[(output * per_group + within) * taps + tap];
        return operation.scale.empty() ? value : value * operation.scale[output];
    };
    std::vector<float> bias;
    for (float each : operation.bias) bias.insert(bias.end(), static_cast<std::size_t>(pixels), each);
    const std::int64_t columns = static_cast<std::int64_t>(gather.size()), per_channel = columns / std::max<std::int64_t>(1, s.channels);
    const auto reach = [&](std::int64_t row) {
        const std::int64_t first = row / pixels / outputs_per_group * per_group * per_channel;
        return VectorProduct::Reach{first, first + per_group * per_channel};
    };
    add_vector(operation, s.outputs * pixels, columns, weight, reach, contiguous ? std::vector<std::int32_t>{} : gather, std::move(bias), {0}, {0});
}

void Compiler::add_vector(const Operation& operation, std::int64_t rows, std::int64_t columns,
                const std::function<float(std::int64_t, std::int64_t)>& weight, const std::function<VectorProduct::Reach(std::int64_t)>& reach, std::vector<std::int32_t> gather,
                std::vector<float> bias, const Offsets& sources, const Offsets& targets) {
    const std::int64_t repeats = static_cast<std::int64_t>(sources.size());
    const auto product = std::make_shared<VectorProduct>(rows, columns, weight, reach, std::move(gather), bias, operation.clamp, kernels_,
                                                         repeats < threads_ ? threads_ : 1);
    product->shelve(shelf_);
    need_scratch(product->scratch_floats());
    Step& step = push(operation, product->describe());
    step.items = repeats * product->items();
    step.report.predicted_cycles = product->cycles() * static_cast<double>(repeats);
    // Of a convolution a row is an output at one of its pixels.
    report_weights(step.report, operation, repeats * rows / operation.weight.shape[0], 0, product->bytes());
    step.report.nonzero_multiply_adds = product->nonzeros() * repeats;
    const std::int64_t input = place(operation.inputs[0]), output = place(operation.output);
    const std::int64_t residual = operation.residual ? place(operation.inputs.back()) : -1;
    step.run = [=](const Frame& frame, std::int64_t begin, std::int64_t end, float* scratch) {
        const int items = product->items();
        for (std::int64_t item = begin; item < end; ++item) {
            const std::int64_t row = item / items;
            float* arena = frame.arena.get();
            product->run(item % items, item % items + 1, arena + input + sources[row],
                         residual < 0 ? nullptr : arena + residual + targets[row], arena + output + targets[row], scratch);
        }
    };
}

void Compiler::add_linear(const Operation& operation) {
    const std::int64_t outputs = operation.weight.shape[0], inputs = operation.weight.shape[1];
    if (images_ == 1) {
        const auto weight = [&](std::int64_t row, std::int64_t column) {
            const float value = operation.weight.data[row * inputs + column];
            return operation.scale.empty() ? value : value * operation.scale[row];
        };
        const auto starts = [&](int value) {  // of every row of features
            const Storage& storage = storages_[value];
            return offsets_of(Shape(storage.dims.begin(), storage.dims.end() - 1), storage.strides);
        };
        const auto all = [&](std::int64_t) { return VectorProduct::Reach{0, inputs}; };
        return add_vector(operation, outputs, inputs, weight, all, {}, operation.bias, starts(operation.inputs[0]), starts(operation.output));
    }
    add_tiles(operation, linear_site(operation, storages_[operation.inputs[0]], storages_[operation.output], images_));
}

}  // namespace secateur
