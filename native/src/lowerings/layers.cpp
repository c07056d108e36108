#include "lowerings/layers.hpp"

#include <algorithm>
#include <memory>

#include "plain_convolution.hpp"

namespace secateur {
namespace {

std::int64_t nonzeros_of(const Filter& filter) {
    const std::int64_t all = elements(filter.weight.shape);
    return all - std::count(filter.weight.data, filter.weight.data + all, 0.0f);
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

// nonzeros: that are multiplied at each of so many places.
void report_weights(StepReport& report, const Filter& filter, const std::string& name, std::int64_t places,
                    std::int64_t nonzeros, std::size_t bytes) {
    const std::int64_t all = elements(filter.weight.shape);
    report.density = all == 0 ? 0 : static_cast<double>(nonzeros_of(filter)) / static_cast<double>(all);
    report.multiply_adds = all * places;
    report.nonzero_multiply_adds = nonzeros * places;
    report.bytes = bytes;
    report.layer = name;
}

// make(parts): a Convolution, Winograd or PlainConvolution whose outputs are divided into so many parts.
template <typename Make>
void add_made(Compiler& compiler, const Operation& operation, const Filter& filter, const Site& site,
              const std::string& name, const Make& make) {
    auto layer = make(1);
    if (const int parts = parts_for(layer->items(), compiler.threads()); parts > 1) layer = make(parts);
    layer->shelve(compiler.shelf());
    compiler.need_scratch(layer->scratch_words());
    Step& step = compiler.push(operation, layer->describe());
    step.items = layer->items();
    step.report.predicted_cycles = layer->cycles();
    const std::int64_t places = elements(compiler.setting().output(operation).dims) / filter.outputs();
    report_weights(step.report, filter, name, places, layer->nonzeros(), layer->bytes());
    const std::int64_t input = compiler.place(operation.inputs[0]) + site.input_offset,
                       output = compiler.place(operation.output) + site.output_offset;
    const std::int64_t residual =
        operation.residual ? compiler.place(operation.inputs.back()) + site.output_offset : -1;
    step.run = [=](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
        layer->run(begin, end, frame.words(input), residual < 0 ? nullptr : frame.words(residual), frame.words(output),
                   scratch);
    };
}

}  // namespace

LayerChoice choose_vector(const Filter& filter, std::int64_t repeats, const Kernels& kernels) {
    const double all = static_cast<double>(elements(filter.weight.shape)),
                 nonzeros = static_cast<double>(nonzeros_of(filter));
    return {AsVector{}, static_cast<double>(repeats) *
                            std::min(all * kernels.cycles.dense_weight, nonzeros * kernels.cycles.sparse_weight)};
}

LayerChoice choose_plain(const Filter& filter, const Site& site) {
    return {AsPlain{}, PlainConvolution::cycles(nonzeros_of(filter), site.output)};
}

LayerChoice choose_tiles(const Filter& filter, const Site& site, const Kernels& kernels, const Costs& costs) {
    const auto tiles = Convolution::choices(filter, site.shape, site.input, site.output, kernels, costs);
    const auto winograds = Winograd::choices(site.shape, site.input, site.output, kernels, costs);
    if (!winograds.empty() && (tiles.empty() || winograds.front().cycles < tiles.front().cycles))
        return {winograds.front(), winograds.front().cycles};
    if (tiles.empty()) return choose_plain(filter, site);
    return {tiles.front(), tiles.front().cycles};
}

void add_layer(Compiler& compiler, const Operation& operation, const Filter& filter, const Site& site,
               const LayerChoice& choice, const std::string& name) {
    const Setting& setting = compiler.setting();
    const bool filled = compiler.fills(operation.output);
    const Border border = filled ? border_of(setting.output(operation), setting.kernels.lanes) : Border{};
    const auto add = [&](const auto& make) { add_made(compiler, operation, filter, site, name, make); };
    if (const auto* tiles = std::get_if<Choice>(&choice.way)) {
        add([&](int parts) {
            return std::make_shared<Convolution>(filter, operation.clamp, site.shape, site.input, site.output,
                                                 setting.kernels, setting.costs, *tiles, parts, border);
        });
    } else if (const auto* winograd = std::get_if<WinogradChoice>(&choice.way)) {
        const auto made = std::make_shared<Winograd>(filter, operation.clamp, site.shape, site.input, site.output,
                                                     setting.kernels, *winograd, border);
        add([&](int parts) {
            made->divide(parts);
            return made;
        });
    } else {
        add([&](int) {
            return std::make_shared<PlainConvolution>(filter, operation.clamp, site.shape, site.input, site.output);
        });
        if (filled) compiler.add_border(operation.output);
    }
}

void add_vector(Compiler& compiler, const Operation& operation, const Filter& filter, const VectorLayer& layer,
                const std::string& name) {
    const std::int64_t repeats = static_cast<std::int64_t>(layer.sources.size());
    const int threads = compiler.threads();
    const auto product =
        std::make_shared<VectorProduct>(layer.rows, layer.columns, layer.weight, layer.reach, layer.gather, layer.bias,
                                        operation.clamp, compiler.setting().kernels, repeats < threads ? threads : 1);
    product->shelve(compiler.shelf());
    compiler.need_scratch(product->scratch_words());
    Step& step = compiler.push(operation, product->describe());
    step.items = repeats * product->items();
    step.report.predicted_cycles = product->cycles() * static_cast<double>(repeats);
    // Of a convolution a row is an output at one of its pixels.
    report_weights(step.report, filter, name, repeats * layer.rows / filter.outputs(), 0, product->bytes());
    step.report.nonzero_multiply_adds = product->nonzeros() * repeats;
    const std::int64_t input = compiler.place(operation.inputs[0]), output = compiler.place(operation.output);
    const std::int64_t residual = operation.residual ? compiler.place(operation.inputs.back()) : -1;
    step.run = [=, sources = layer.sources, targets = layer.targets](const Frame& frame, std::int64_t begin,
                                                                     std::int64_t end, Word* scratch) {
        const int items = product->items();
        for (std::int64_t item = begin; item < end; ++item) {
            const std::int64_t row = item / items;
            product->run(item % items, item % items + 1, frame.words(input + sources[row]),
                         residual < 0 ? nullptr : frame.words(residual + targets[row]),
                         frame.words(output + targets[row]), scratch);
        }
    };
}

}  // namespace secateur
