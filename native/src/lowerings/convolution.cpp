#include <algorithm>
#include <array>

#include "lowerings/layers.hpp"
#include "lowerings/lowering.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

std::optional<Kind> read(const Node& node) {
    const bool bytes = node.op == "quantised_conv2d";
    if (!bytes && node.op != "conv2d") return {};
    const std::int64_t groups = integer_of(node, "groups");
    return kind::Convolution{bytes ? byte_filter_in(node, groups) : filter_in(node), integers_of(node, "stride"),
                             integers_of(node, "padding"), integers_of(node, "dilation"), groups};
}

const kind::Convolution& layer_of(const Operation& operation) { return std::get<kind::Convolution>(operation.kind); }

Site site_of(const Setting& setting, const Operation& operation) {
    return convolution_site(layer_of(operation), setting.input(operation), setting.output(operation), setting.images);
}

LayerChoice choose(const Setting& setting, const Operation& operation) {
    const Filter& filter = layer_of(operation).filter;
    const Shape &input = setting.input(operation).dims, &output = setting.output(operation).dims;
    const int lanes = setting.kernels.lanes;
    if (setting.images == 1 && few_pixels(input, output, lanes))
        return choose_vector(filter, output[1] * output[2], setting.kernels);
    const Site site = site_of(setting, operation);
    if (setting.images == 1 && tiny(output, lanes)) return choose_plain(filter, site);
    return choose_tiles(filter, site, setting.kernels, setting.costs);
}

double cycles(const Setting& setting, const Operation& operation) {
    if (elements(setting.output(operation).dims) == 0) return 0;
    return choose(setting, operation).cycles + traffic(setting, operation);
}

// Few output pixels: a matrix of a row per output and pixel, times a vector of all the inputs that they see. Four outputs
// of eight bits at one pixel are rows side by side, as they are bytes of one word.
VectorProblem few_pixel_problem(const Filter& filter, const ConvolutionShape& s, const Storage& in, const Storage& out,
                                const Kernels& kernels) {
    const std::int64_t pixels = out.dims[1] * out.dims[2];
    std::vector<std::int32_t> gather;
    std::vector<std::array<std::int64_t, 3>> seen;  // channel, row, column
    std::vector<std::int64_t> tap_of;               // [input pixel][output pixel], -1: none
    for (std::int64_t iy = 0; iy < in.dims[1]; ++iy)
        for (std::int64_t ix = 0; ix < in.dims[2]; ++ix)
            for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
                const std::int64_t y = iy + s.top - pixel / out.dims[2] * s.stride_y,
                                   x = ix + s.left - pixel % out.dims[2] * s.stride_x;
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
                gather.push_back(
                    static_cast<std::int32_t>(c * in.strides[0] + iy * in.strides[1] + ix * in.strides[2]));
                seen.push_back({c, iy, ix});
            }
    bool contiguous = true;
    for (std::size_t i = 0; i < gather.size(); ++i)
        contiguous = contiguous && gather[i] == static_cast<std::int32_t>(i);
    const std::int64_t per_group = s.channels / s.groups, outputs_per_group = s.outputs / s.groups;
    const std::int64_t columns = static_cast<std::int64_t>(gather.size()),
                       per_channel = columns / std::max<std::int64_t>(1, s.channels);
    struct Row {
        std::int64_t output, pixel;
    };
    const std::int64_t together = filter.makes_bytes() ? 4 : 1;
    const auto row_at = [=](std::int64_t row) {
        return Row{row / together / pixels * together + row % together, row / together % pixels};
    };
    std::vector<std::vector<Word>> biases;  // of every output pixel: of the taps that see an input there
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
        std::vector<bool> used(static_cast<std::size_t>(s.kernel_y * s.kernel_x), false);
        for (std::int64_t at = pixel; at < in.dims[1] * in.dims[2] * pixels; at += pixels)
            if (tap_of[at] >= 0) used[static_cast<std::size_t>(tap_of[at])] = true;
        biases.push_back(filter.biases(kernels, used));
    }
    const auto weight = [=, &filter, width = in.dims[2], seen = std::move(seen), tap_of = std::move(tap_of)](
                            std::int64_t row, std::int64_t at) {
        const auto [output, pixel] = row_at(row);
        const auto [channel, iy, ix] = seen[at];
        const std::int64_t within = channel - output / outputs_per_group * per_group - filter.first(output);
        const std::int64_t tap = tap_of[(iy * width + ix) * pixels + pixel];
        if (within < 0 || within >= filter.span() || tap < 0) return Word{0};
        return filter.word(output, within, tap);
    };
    const auto reach = [=, &filter](std::int64_t row) {
        const std::int64_t output = row_at(row).output;
        const std::int64_t first = (output / outputs_per_group * per_group + filter.first(output)) * per_channel;
        return VectorProblem::Reach{first, first + filter.span() * per_channel};
    };
    const std::int64_t rows = (filter.makes_bytes() ? filter.bytes->outputs : filter.outputs()) * pixels;
    std::vector<Word> bias;
    std::vector<float> multipliers;
    for (std::int64_t row = 0; row < rows; ++row) {
        bias.push_back(biases[row_at(row).pixel][row_at(row).output]);
        if (filter.bytes) multipliers.push_back(filter.bytes->multipliers[row_at(row).output]);
    }
    if (contiguous) gather.clear();
    return {rows, columns, weight, reach, std::move(gather), std::move(bias), std::move(multipliers), filter.bytes};
}

std::string name_of(const kind::Convolution& layer) {
    const Shape& weight = layer.filter.weight.shape;
    const std::string name = layer.groups == 1 ? " convolution"
                             : weight[1] == 1  ? " depthwise convolution"
                                               : " grouped convolution";
    return std::to_string(weight[2]) + "×" + std::to_string(weight[3]) + name;
}

void compile(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const kind::Convolution& layer = layer_of(operation);
    const LayerChoice choice = choose(setting, operation);
    const Site site = site_of(setting, operation);
    if (!std::holds_alternative<AsVector>(choice.way))
        return add_layer(compiler, operation, layer.filter, site, choice, name_of(layer));
    add_vector(compiler, operation, layer.filter,
               few_pixel_problem(layer.filter, site.shape, setting.input(operation), setting.output(operation),
                                 setting.kernels),
               {0}, {0}, name_of(layer));
}

bool can_fold(const FusedNetwork& network, const Operation& operation, int lanes) {
    const Shape &from = network.shapes[operation.inputs[0]], &to = network.shapes[operation.output];
    if (!foldable(from, lanes) || (operation.residual && network.shapes[operation.inputs.back()] != to)) return false;
    return folds(layer_of(operation), make_folded(from, lanes, true), make_folded(to, lanes, true));
}

bool sees_border(const Operation& operation) {
    const Shape& weight = layer_of(operation).filter.weight.shape;
    return elements(weight) != weight[0] * weight[1];
}

constexpr FoldingRules kFolding = {.possible = can_fold, .sees_border = sees_border, .alike = 1};

}  // namespace

const Lowering lowerings::convolution = {
    .read = read, .cycles = cycles, .compile = compile, .folding = &kFolding, .clamps = true, .fills_border = true};

}  // namespace secateur
