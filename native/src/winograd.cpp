#include "winograd.hpp"

#include <algorithm>
#include <array>

#include "convolution_problem.hpp"

namespace secateur {
namespace {

constexpr std::int64_t kTogether = 128;  // outputs whose products are kept at a time

// A row of G: one frequency of the three taps of a kernel along one side.
using Line = std::array<double, 3>;
constexpr std::array<Line, 4> kTwo = {{{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}}};
constexpr double kRoot = 1.4142135623730951;
constexpr std::array<Line, 6> kFour = {{{1, 0, 0},
                                        {-2.0 / 3, -kRoot / 3, -1.0 / 3},
                                        {-2.0 / 3, kRoot / 3, -1.0 / 3},
                                        {1.0 / 6, kRoot / 6, 1.0 / 3},
                                        {1.0 / 6, -kRoot / 6, 1.0 / 3},
                                        {0, 0, 1}}};

const Line* frequencies_of(int outputs) { return outputs == 2 ? kTwo.data() : kFour.data(); }

std::int64_t side(const WinogradTransform& transform) { return transform.outputs + 2; }

// An odd number of cache lines, so that frequencies share no sets of the caches.
std::int64_t apart(std::int64_t floats) {
    const std::int64_t lines = ceil_divide(floats, 16);
    return (lines + 1 - lines % 2) * 16;
}

bool possible(const ConvolutionShape& s, const Planes& input, const Planes& output, int lanes) {
    const bool plain = s.kernel_y == 3 && s.kernel_x == 3 && s.stride_y == 1 && s.stride_x == 1 && s.dilation_y == 1 &&
                       s.dilation_x == 1 && s.groups == 1;
    const auto whole = [&](const Planes& p) {
        return p.images >= lanes && p.images % lanes == 0 && p.column == p.images;
    };
    return plain && s.channels > 0 && s.outputs > 0 && whole(input) && whole(output) && input.images == output.images;
}

std::int64_t units_of(const WinogradTransform& transform, const Planes& output, int lanes) {
    return ceil_divide(output.height, transform.outputs) * ceil_divide(output.width, transform.outputs) *
           (output.images / lanes);
}

// Fitted to AVX-512 on Zen 4. Weights are streamed once per batch of tiles, of which the first finds them in memory as
// it would find those of a direct convolution.
double predict(const WinogradChoice& choice, const ConvolutionShape& s, const Planes& input, const Planes& output,
               const Kernels& kernels, const Costs& costs) {
    constexpr double kNear = 0.7e6, kShared = 16e6;                          // bytes that stay in L2, in L3
    constexpr double kFromShared = 0.04, kFromMemory = 0.12, kFirst = 0.08;  // cycles a byte
    const WinogradProduct& product = *choice.product;
    const double fma = kernels.cycles.multiply_add,
                 frequencies = static_cast<double>(side(*choice.transform) * side(*choice.transform));
    const double batches =
        static_cast<double>(ceil_divide(units_of(*choice.transform, output, kernels.lanes), product.columns));
    const double outputs = static_cast<double>(ceil_divide(s.outputs, product.outputs) * product.outputs),
                 channels = static_cast<double>(s.channels);
    const double values = 4.0 * static_cast<double>(input.channel * input.channels + output.channel * output.channels);
    const double line = costs.transform + 10 * std::clamp((values - 1.5e6) / 6e6, 0.0, 1.0);
    const double batch =
        frequencies * product.columns * (1.03 * outputs * channels + line * (channels + outputs)) + 40 * frequencies;
    const double bytes = 4 * frequencies * outputs * channels,
                 direct = 4.0 * 9 * static_cast<double>(s.outputs) * channels;
    const double again = bytes < kNear ? 0 : bytes < kShared ? kFromShared : kFromMemory;
    return batches * batch * fma + (batches - 1) * again * bytes + kFirst * (bytes - direct);
}

}  // namespace

std::vector<WinogradChoice> Winograd::choices(const ConvolutionShape& shape, const Planes& input, const Planes& output,
                                              const Kernels& kernels, const Costs& costs) {
    std::vector<WinogradChoice> found;
    if (!possible(shape, input, output, kernels.lanes)) return found;
    for (int t = 0; t < kernels.transform_count; ++t)
        for (int p = 0; p < kernels.product_count; ++p) {
            WinogradChoice choice{&kernels.transforms[t], &kernels.products[p], 0};
            choice.cycles = predict(choice, shape, input, output, kernels, costs);
            found.push_back(choice);
        }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.cycles < b.cycles; });
    return found;
}

Winograd::Winograd(const Filter& filter, Clamp clamp, const ConvolutionShape& shape, const Planes& input,
                   const Planes& output, const Kernels& kernels, const WinogradChoice& choice, const Border& border)
    : kernels_(kernels), choice_(choice), input_(input), output_(output), top_(shape.top), left_(shape.left),
      channels_(shape.channels), outputs_(shape.outputs), bias_(filter.bias), clamp_(clamp) {
    const int lanes = kernels.lanes;
    const WinogradProduct& product = *choice.product;
    tiles_x_ = ceil_divide(output.width, choice.transform->outputs), vectors_ = output.images / lanes;
    units_ = units_of(*choice.transform, output, lanes);
    batches_ = ceil_divide(units_, product.columns), groups_ = ceil_divide(outputs_, product.outputs);
    together_ = std::min(groups_, ceil_divide(kTogether, product.outputs));
    input_frequency_ = apart(channels_ * product.columns * lanes);
    product_frequency_ = apart(together_ * product.outputs * product.columns * lanes);
    nonzeros_ = count(filter, make_problem(shape, input, output)).nonzero;
    transform_weights(filter);
    find_moves(border);
}

void Winograd::divide(int parts) { parts_ = static_cast<int>(std::clamp<std::int64_t>(parts, 1, groups_)); }

// G g Gᵀ of every kernel g.
void Winograd::transform_weights(const Filter& filter) {
    const Line* lines = frequencies_of(choice_.transform->outputs);
    const std::int64_t size = side(*choice_.transform), per_group = choice_.product->outputs;
    const std::int64_t frequency = groups_ * channels_ * per_group;
    weights_.made().resize(static_cast<std::size_t>(size * size * frequency));
    for (std::int64_t c = 0; c < channels_; ++c)
        for (std::int64_t o = 0; o < outputs_; ++o) {
            const float* kernel = filter.weight.data + (o * channels_ + c) * 9;
            const double scale = filter.scale.empty() ? 1.0 : filter.scale[o];
            float* target = weights_.made().data() + (o / per_group * channels_ + c) * per_group + o % per_group;
            for (std::int64_t i = 0; i < size; ++i) {
                Line rows{};
                for (int ky = 0; ky < 3; ++ky)
                    for (int kx = 0; kx < 3; ++kx) rows[kx] += lines[i][ky] * kernel[ky * 3 + kx];
                for (std::int64_t j = 0; j < size; ++j)
                    target[(i * size + j) * frequency] = static_cast<float>(
                        scale * (lines[j][0] * rows[0] + lines[j][1] * rows[1] + lines[j][2] * rows[2]));
            }
        }
}

// What each tile writes of the border, once its own pixels are there.
void Winograd::find_moves(const Border& border) {
    const std::int64_t outputs = choice_.transform->outputs;
    moves_.resize(static_cast<std::size_t>(units_ / vectors_));
    lanes_ = border.lanes;
    for (const BorderMove& move : border.moves) {
        const std::int64_t y = move.source / output_.row / outputs,
                           x = move.source % output_.row / output_.column / outputs;
        const std::int32_t first = static_cast<std::int32_t>(y * outputs * output_.row + x * outputs * output_.column);
        moves_[static_cast<std::size_t>(y * tiles_x_ + x)].push_back(
            {move.source - first, move.target - first, move.pattern});
    }
}

std::size_t Winograd::scratch_words() const {
    const std::int64_t size = side(*choice_.transform);
    return static_cast<std::size_t>(size * size * (input_frequency_ + product_frequency_));
}

// A batch that is not full repeats its last unit: what nobody stores.
void Winograd::transform_inputs(std::int64_t batch, const float* input, float* target) const {
    const std::int64_t outputs = choice_.transform->outputs, columns = choice_.product->columns, lanes = kernels_.lanes;
    for (std::int64_t n = 0; n < columns; ++n) {
        const std::int64_t unit = std::min(units_ - 1, batch * columns + n), tile = unit / vectors_;
        const std::int64_t y = tile / tiles_x_ * outputs - top_, x = tile % tiles_x_ * outputs - left_;
        const auto first = [](std::int64_t at) { return static_cast<int>(std::max<std::int64_t>(0, -at)); };
        const auto last = [&](std::int64_t at, std::int64_t size) {
            return static_cast<int>(std::min(size - at, outputs + 2));
        };
        choice_.transform->transform_inputs(
            {input + y * input_.row + x * input_.column + unit % vectors_ * lanes, input_.channel, input_.row,
             input_.column, first(y), last(y, input_.height), first(x), last(x, input_.width),
             static_cast<int>(channels_), target + n * lanes, columns * lanes, input_frequency_});
    }
}

void Winograd::transform_outputs(std::int64_t batch, std::int64_t first, std::int64_t end, const float* products,
                                 const float* residual, float* output) const {
    const std::int64_t outputs = choice_.transform->outputs, columns = choice_.product->columns, lanes = kernels_.lanes;
    for (std::int64_t n = 0; n < std::min(columns, units_ - batch * columns); ++n) {
        const std::int64_t unit = batch * columns + n, tile = unit / vectors_;
        const std::int64_t y = tile / tiles_x_ * outputs, x = tile % tiles_x_ * outputs;
        const std::int64_t place =
            first * output_.channel + y * output_.row + x * output_.column + unit % vectors_ * lanes;
        const auto inside = [&](std::int64_t at, std::int64_t size) {
            return static_cast<int>(std::min(size - at, outputs));
        };
        const std::vector<BorderMove>& moves = moves_[static_cast<std::size_t>(tile)];
        choice_.transform->transform_outputs(
            {products + n * lanes, columns * lanes, product_frequency_, bias_.data() + first,
             residual == nullptr ? nullptr : residual + place, output + place, output_.channel, output_.row,
             output_.column, inside(y, output_.height), inside(x, output_.width), static_cast<int>(end - first),
             clamp_.low, clamp_.high, moves.data(), static_cast<int>(moves.size()), lanes_.data()});
    }
}

void Winograd::run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual, Word* output,
                   Word* scratch) const {
    const std::int64_t frequencies = side(*choice_.transform) * side(*choice_.transform),
                       per_group = choice_.product->outputs;
    float* transformed = as_floats(scratch);
    float* products = transformed + frequencies * input_frequency_;
    for (std::int64_t item = begin; item < end; ++item) {
        const std::int64_t batch = item / parts_, part = item % parts_, last = groups_ * (part + 1) / parts_;
        if (item == begin || part == 0) transform_inputs(batch, as_floats(input), transformed);
        for (std::int64_t group = groups_ * part / parts_; group < last; group += together_) {
            const std::int64_t some = std::min(together_, last - group);
            for (std::int64_t f = 0; f < frequencies; ++f)
                choice_.product->multiply({transformed + f * input_frequency_,
                                           weights_.data() + (f * groups_ + group) * channels_ * per_group,
                                           products + f * product_frequency_, static_cast<int>(channels_),
                                           static_cast<int>(some)});
            transform_outputs(batch, group * per_group, std::min((group + some) * per_group, outputs_), products,
                              as_floats(residual), as_floats(output));
        }
    }
}

std::string Winograd::describe() const {
    const std::string side = std::to_string(choice_.transform->outputs);
    const int tiles = choice_.product->columns;
    return "Winograd " + side + "×" + side + ", " + std::to_string(tiles) + (tiles == 1 ? " tile × " : " tiles × ") +
           std::to_string(choice_.product->outputs) + " outputs at a time";
}

}  // namespace secateur
