#include <algorithm>
#include <cmath>

#include "convolution_builder.hpp"

namespace secateur {

namespace {

constexpr std::int64_t kMostPieces = 1 << 24;     // of all tiles: more would be a plan larger than what it is for
constexpr std::int64_t kOffsetLimit = 2 * 65536;  // words that 16 bits in units of two reach

}  // namespace

std::vector<Choice> Convolution::Builder::choices() const {
    std::vector<Choice> found;
    for (const TileVariant& variant : variants()) {
        // Dense entries share one list of offsets, so a block of them must hold one group of channels.
        if (variant.outputs > problem_.shape.outputs / problem_.shape.groups) continue;
        if (variant.dense && (problem_.shape.groups > 1 || filter_.span() < problem_.shape.channels)) continue;
        for (Choice choice : shapes(variant)) {
            add_blocks(choice, found);
            choice.in_place = true;
            if (lies_ready(choice)) add_blocks(choice, found);
        }
    }
    std::sort(found.begin(), found.end(), [](const Choice& a, const Choice& b) { return a.cycles < b.cycles; });
    return found;
}

// The tiles that a variant can have here.
std::vector<Choice> Convolution::Builder::shapes(const TileVariant& variant) const {
    std::vector<Choice> found;
    const std::int64_t height = problem_.output.height, width = problem_.output.width;
    if (!planar()) {
        const int images = problem_.output.images / lanes();
        for (int vectors = 1; vectors <= images; vectors *= 2) {
            if (images % vectors != 0 || variant.columns % vectors != 0) continue;
            const int columns = variant.columns / vectors;
            if (variant.rows >= 2 * height || columns >= 2 * width) continue;
            found.push_back({&variant, variant.rows, columns, vectors, 0, 0});
        }
        return found;
    }
    if (variant.rows != 1) return found;
    const std::int64_t words = variant.columns * lanes(), pitch = output_pitch();
    if (pitch <= lanes()) {
        const std::int64_t vectors = ceil_divide(height * pitch, lanes());
        if (variant.columns <= vectors)
            found.push_back({&variant, static_cast<int>(words / pitch), static_cast<int>(pitch), 1, 0, 0});
        return found;
    }
    for (std::int64_t columns = lanes(); columns <= words; columns += lanes()) {
        if (words % columns != 0 || columns > pitch) continue;
        const std::int64_t rows = words / columns;
        if (rows >= 2 * height) continue;
        found.push_back({&variant, static_cast<int>(rows), static_cast<int>(columns), 1, 0, 0});
    }
    return found;
}

bool Convolution::Builder::rows_lie_ready(const Choice& choice) const {
    const ConvolutionShape& s = problem_.shape;
    const Planes &in = problem_.input, &out = problem_.output;
    const bool pointwise =
        s.kernel_y * s.kernel_x == 1 && s.stride_y == 1 && s.stride_x == 1 && s.top == 0 && s.left == 0;
    if (!pointwise || choice.rows != 1 || in.channel % 16 != 0 || in.channel == 0) return false;
    return in.height == 1 && out.height == 1 && in.width == out.width && out.width % choice.columns == 0;
}

bool Convolution::Builder::pixels_lie_ready(const Choice& choice) const {
    const ConvolutionShape& s = problem_.shape;
    const Planes &in = problem_.input, &out = problem_.output;
    const auto inside = [](const Axis& axis, std::int64_t kernel, std::int64_t dilation) {
        return axis.before == 0 && (axis.out - 1) * axis.stride + (kernel - 1) * dilation < axis.size;
    };
    if (s.stride_x != 1 || !inside(problem_.y, s.kernel_y, s.dilation_y) ||
        !inside(problem_.x, s.kernel_x, s.dilation_x))
        return false;
    if (choice.image_vectors * lanes() != in.images || in.column != in.images || in.channel == 0) return false;
    return out.height % choice.rows == 0 && out.width % choice.columns == 0;
}

void Convolution::Builder::add_blocks(Choice choice, std::vector<Choice>& found) const {
    const Geometry geometry = layout(choice);
    const std::int64_t channels = problem_.shape.channels / problem_.shape.groups;
    const std::int64_t taps = std::max<std::int64_t>(1, geometry.used_taps);
    const std::int64_t most = std::min(kOffsetLimit / geometry.channel_words, 65535 / taps / (narrow_ ? 2 : 1));
    if (most < 1 || geometry.pieces > kMostPieces / std::max<std::int64_t>(1, geometry.tiles)) return;
    std::int64_t last = 0;
    for (double bytes : {12e3, 16e3, 20e3, 24e3, 28e3, 40e3, 60e3, 90e3, 130e3, 200e3, 300e3, 520e3}) {
        std::int64_t block = static_cast<std::int64_t>(bytes / 4 / geometry.words);
        block = std::clamp<std::int64_t>(block, 1, most);
        if (block >= channels) {
            block = problem_.shape.groups > 1 ? std::min(block / channels, problem_.shape.groups) * channels : channels;
        } else {
            block = ceil_divide(channels, ceil_divide(channels, block));  // equal blocks
        }
        if (block == last) continue;
        last = block;
        choice.block = block;
        choice.cycles = predict(choice, geometry);
        found.push_back(choice);
    }
}

double Convolution::Builder::predict(const Choice& choice, const Geometry& geometry) const {
    const ConvolutionShape& s = problem_.shape;
    const TileVariant& variant = *choice.variant;
    const double t = variant.rows * variant.columns, fma = cycle();
    const double density =
        counts_.used == 0 ? 0 : static_cast<double>(counts_.nonzero) / static_cast<double>(counts_.used);
    const std::int64_t channels = s.channels / s.groups;
    const double blocks = static_cast<double>(ceil_divide(channels, choice.block));  // that an output takes part in
    const double far = distance(4.0 * static_cast<double>(choice.block) * geometry.words);
    const double positions = static_cast<double>(channels * geometry.used_taps) * geometry.work;  // per output
    const double tall = variant.rows > 2 ? 1.04 : 1.0;
    const double single = std::max(1.7, (costs_.load * t * far + costs_.nonzero) * fma * tall);
    // Multiply-adds of an input with the weights of so many outputs: the fewer, the more of the time are inputs on the way.
    const auto adds = [&](int outputs) { return 1.03 * outputs * t * (1 + 0.6 * (far - 1) / outputs); };
    double per_output, used = std::min(blocks, positions * density);
    if (variant.dense) {
        // What no tile of so many outputs is left for goes one by one.
        const double rest = static_cast<double>(s.outputs % variant.outputs) / static_cast<double>(s.outputs);
        const double step = std::max(adds(variant.outputs), t * far + 0.55 * variant.outputs) * fma;
        per_output = positions * ((1 - rest) * (step / variant.outputs + 0.1) + rest * single);
        used = blocks;
    } else if (variant.patterns) {
        const double alone = density * (1 - density), both = density * density / 2;
        const double step = std::max(adds(2), t * far) * fma;
        per_output = positions * (alone * (single + 0.4) + both * (step + 0.6)) + 8 * blocks;
        used = blocks;
    } else {
        per_output = positions * density * single;
    }
    const double sums = costs_.sums * t * fma * std::max(0.0, used - 1) + costs_.finish * t * fma + 4 * used;
    const double tile = static_cast<double>(s.outputs) * (per_output + sums) +
                        geometry.pack_cycles * static_cast<double>(s.channels) + 60 * blocks;
    return tile * static_cast<double>(geometry.tiles);
}

// How much longer a multiply-add takes that reads from a packed block of so many bytes than one that reads from L1.
double Convolution::Builder::distance(double bytes) const {
    double below = 0, last = 1.0;
    for (std::size_t i = 0; i < Costs::kBytes.size(); ++i) {
        const double size = Costs::kBytes[i], factor = costs_.distance[i];
        if (bytes <= size) return last + (factor - last) * (bytes - below) / (size - below);
        below = size, last = factor;
    }
    return last;
}

}  // namespace secateur
