#include "lowerings/layers.hpp"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "byte_convolution.hpp"
#include "plain_convolution.hpp"

namespace secateur {
namespace {

// Into how many parts to divide items so that threads have nearly as much to do; each part reads all inputs.
int parts_for(std::int64_t items, int threads) {
    constexpr double kEnough = 0.8;
    for (int parts = 1; parts < threads; ++parts) {
        const std::int64_t rounds = (items * parts + threads - 1) / threads;
        if (static_cast<double>(items * parts) >= kEnough * static_cast<double>(rounds * threads)) return parts;
    }
    return threads;
}

const Costs& costs_of(const Filter& filter, const CostModel& model) {
    return filter.bytes ? model.bytes : model.floats;
}

// Where a layer computes all its outputs, of one image.
std::int64_t places_of(const Compiler& compiler, const Operation& operation, const Filter& filter) {
    const std::int64_t outputs = filter.makes_bytes() ? filter.bytes->outputs / 4 : filter.outputs();
    return elements(compiler.setting().output(operation).dims) / outputs;
}

}  // namespace

void report_weights(StepReport& report, const Filter& filter, const std::string& name, std::int64_t places,
                    std::int64_t nonzeros, std::size_t bytes) {
    const std::int64_t all = elements(filter.weight.shape);
    report.density = all == 0 ? 0 : static_cast<double>(filter.nonzeros()) / static_cast<double>(all);
    report.multiply_adds = all * places;
    report.nonzero_multiply_adds = nonzeros * places * (filter.bytes ? 4 : 1);
    report.bytes = bytes;
    report.layer = name;
}

namespace {

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
    report_weights(step.report, filter, name, places_of(compiler, operation, filter), layer->nonzeros(),
                   layer->bytes());
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
    const Cycles& cycles = filter.bytes ? kernels.bytes->cycles : kernels.cycles;
    const double all = static_cast<double>(filter.words()), nonzeros = static_cast<double>(filter.nonzero_words());
    return {AsVector{},
            static_cast<double>(repeats) * std::min(all * cycles.dense_weight, nonzeros * cycles.sparse_weight)};
}

LayerChoice choose_plain(const Filter& filter, const Site& site) {
    if (filter.bytes) return {AsPlain{}, BytePlainConvolution::cycles(filter.nonzero_words(), site.output)};
    return {AsPlain{}, PlainConvolution::cycles(filter.nonzeros(), site.output)};
}

LayerChoice choose_tiles(const Filter& filter, const Site& site, const Kernels& kernels, const CostModel& model) {
    const Costs& costs = costs_of(filter, model);
    const auto tiles = Convolution::choices(filter, site.shape, site.input, site.output, kernels, costs);
    if (!filter.bytes) {
        const auto winograds = Winograd::choices(site.shape, site.input, site.output, kernels, costs);
        if (!winograds.empty() && (tiles.empty() || winograds.front().cycles < tiles.front().cycles))
            return {winograds.front(), winograds.front().cycles};
    }
    if (tiles.empty()) return choose_plain(filter, site);
    return {tiles.front(), tiles.front().cycles};
}

void add_layer(Compiler& compiler, const Operation& operation, const Filter& filter, const Site& site,
               const LayerChoice& choice, const std::string& name) {
    const Setting& setting = compiler.setting();
    const bool filled = compiler.fills(operation.output);
    const Border border =
        filled ? border_of(setting.output(operation), setting.kernels.lanes, setting.network.fills[operation.output])
               : Border{};
    const auto add = [&](const auto& make) { add_made(compiler, operation, filter, site, name, make); };
    if (const auto* tiles = std::get_if<Choice>(&choice.way)) {
        add([&](int parts) {
            return std::make_shared<Convolution>(filter, operation.clamp, site.shape, site.input, site.output,
                                                 setting.kernels, costs_of(filter, setting.costs), *tiles, parts,
                                                 border);
        });
    } else if (const auto* winograd = std::get_if<WinogradChoice>(&choice.way)) {
        const auto made = std::make_shared<Winograd>(filter, operation.clamp, site.shape, site.input, site.output,
                                                     setting.kernels, *winograd, border);
        add([&](int parts) {
            made->divide(parts);
            return made;
        });
    } else if (filter.bytes) {
        add([&](int) { return std::make_shared<BytePlainConvolution>(filter, site.shape, site.input, site.output); });
        if (filled) compiler.add_border(operation.output);
    } else {
        add([&](int) {
            return std::make_shared<PlainConvolution>(filter, operation.clamp, site.shape, site.input, site.output);
        });
        if (filled) compiler.add_border(operation.output);
    }
}

VectorProblem matrix_problem(const Filter& filter, const Kernels& kernels) {
    const std::int64_t rows = filter.makes_bytes() ? filter.bytes->outputs : filter.outputs(), columns = filter.span();
    const auto weight = [&filter](std::int64_t row, std::int64_t column) { return filter.word(row, column, 0); };
    const auto all = [columns](std::int64_t) { return VectorProblem::Reach{0, columns}; };
    std::vector<Word> bias = filter.biases(kernels);
    bias.resize(static_cast<std::size_t>(rows));
    return {rows,
            columns,
            weight,
            all,
            {},
            std::move(bias),
            filter.bytes ? filter.bytes->multipliers : std::vector<float>{},
            filter.bytes};
}

void add_vector(Compiler& compiler, const Operation& operation, const Filter& filter, VectorProblem problem,
                const Offsets& sources, const Offsets& targets, const std::string& name) {
    const std::int64_t repeats = static_cast<std::int64_t>(sources.size());
    const int threads = compiler.threads();
    const auto product = std::make_shared<VectorProduct>(std::move(problem), operation.clamp,
                                                         compiler.setting().kernels, repeats < threads ? threads : 1);
    product->shelve(compiler.shelf());
    compiler.need_scratch(product->scratch_words());
    Step& step = compiler.push(operation, product->describe());
    step.items = repeats * product->items();
    step.report.predicted_cycles = product->cycles() * static_cast<double>(repeats);
    report_weights(step.report, filter, name, places_of(compiler, operation, filter), 0, product->bytes());
    step.report.nonzero_multiply_adds = product->nonzeros() * repeats * (filter.bytes ? 4 : 1);
    const std::int64_t input = compiler.place(operation.inputs[0]), output = compiler.place(operation.output);
    const std::int64_t residual = operation.residual ? compiler.place(operation.inputs.back()) : -1;
    const auto place = [=](const Frame& frame, std::int64_t row) {
        return Multiplied{frame.words(input + sources[row]),
                          residual < 0 ? nullptr : frame.words(residual + targets[row]),
                          frame.words(output + targets[row])};
    };
    const auto run = [=](std::span<const Frame> frames, std::int64_t begin, std::int64_t end, Word* scratch) {
        Multiplied vectors[kVectorsTogether];
        for (const std::int64_t items = product->items(); begin < end;) {
            // One part of several rows, or several parts of one.
            const std::int64_t row = begin / items, part = begin % items, rows = items == 1 ? end - begin : 1,
                               parts = std::min(items - part, end - begin);
            std::size_t count = 0;
            const auto multiply = [&] {
                product->run(part, part + parts, {vectors, std::exchange(count, 0)}, scratch);
            };
            for (const Frame& frame : frames)
                for (std::int64_t i = row; i < row + rows; ++i) {
                    vectors[count++] = place(frame, i);
                    if (count == kVectorsTogether) multiply();
                }
            if (count > 0) multiply();
            begin += rows * parts;
        }
    };
    step.run_together(run, static_cast<double>(product->bytes()));
    step.at_once = product->items() == 1 ? kVectorsTogether : 1;
}

}  // namespace secateur
