#include <algorithm>

#include "arranging.hpp"
#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "operations.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

std::optional<Kind> read_softmax(const Node& node) {
    if (node.op != "softmax") return {};
    return kind::Softmax{axes_of(node, "axis")[0]};
}

std::optional<Kind> read_layer_norm(const Node& node) {
    if (node.op != "layer_norm") return {};
    const Array *weight = weight_of(node, "weight"), *bias = weight_of(node, "bias");
    return kind::LayerNorm{integer_of(node, "axes"), node.numbers.at("eps"), weight == nullptr ? Array{} : *weight,
                           bias == nullptr ? Array{} : *bias};
}

// Rows whose features are evenly apart: `rows` side by side from each start on, or one.
struct EvenLines {
    Offsets starts;
    std::int64_t rows, plane;
};

std::optional<EvenLines> even_lines(const Lines& lines, int images) {
    const auto& [starts, steps] = lines;
    if (steps.size() < 2 || steps[1] < 1) return {};
    for (std::size_t i = 0; i < steps.size(); ++i)
        if (steps[i] != steps[1] * static_cast<std::int64_t>(i)) return {};
    EvenLines found{{}, images, steps[1]};
    if (found.plane == 1) return EvenLines{starts, 1, 1};
    std::size_t together = 1;  // starts
    while (together < starts.size() && starts[together] == starts[0] + static_cast<std::int64_t>(together) * images)
        ++together;
    if (starts.size() % together != 0) together = 1;
    for (std::size_t i = 0; i < starts.size(); ++i)
        if (starts[i] != starts[i / together * together] + static_cast<std::int64_t>(i % together) * images) return {};
    for (std::size_t i = 0; i < starts.size(); i += together) found.starts.push_back(starts[i]);
    found.rows = static_cast<std::int64_t>(together) * images;
    return found;
}

void compile_softmax(Compiler& compiler, const Operation& operation) {
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output),
                       axis = std::get<kind::Softmax>(operation.kind).axis;
    Lines lines = lines_of(compiler.setting().output(operation), axis, axis + 1);
    const Kernels& kernels = compiler.setting().kernels;
    int together = compiler.setting().images;
    // Lines side by side are as good as images.
    if (const auto even = even_lines(lines, together); even && even->plane > 1 && even->rows >= kernels.lanes)
        lines.starts = even->starts, together = static_cast<int>(even->rows);
    compiler.need_scratch(softmax_words(lines, kernels));
    Step& step = compiler.push(operation, "loop");
    step.items = static_cast<std::int64_t>(lines.starts.size()) * ((together + kernels.lanes - 1) / kernels.lanes);
    step.run = [=, &kernels](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
        softmax_lines(lines, kernels, begin, end, frame.floats(from), frame.floats(to), together, as_floats(scratch));
    };
}

std::vector<float> copy_of(const Array& array) {
    return array.data == nullptr ? std::vector<float>{}
                                 : std::vector<float>(array.data, array.data + elements(array.shape));
}

void compile_layer_norm(Compiler& compiler, const Operation& operation) {
    const auto& norm = std::get<kind::LayerNorm>(operation.kind);
    const Storage& storage = compiler.setting().output(operation);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output),
                       rank = static_cast<std::int64_t>(storage.dims.size());
    const int images = compiler.setting().images;
    const auto lines = lines_of(storage, rank - norm.axes, rank);
    const auto weight = copy_of(norm.weight), bias = copy_of(norm.bias);
    Step& step = compiler.push(operation, "loop");
    const auto even = even_lines(lines, images);
    if (!even) {
        step.run = [=, epsilon = norm.epsilon](const Frame& frame, std::int64_t, std::int64_t, Word*) {
            normalise_lines(lines, weight, bias, epsilon, frame.floats(from), frame.floats(to), images);
        };
        return;
    }
    // Vectors of rows, or rows: from each start on equally many.
    const Kernels& kernels = compiler.setting().kernels;
    const bool planes = even->plane > 1;
    const std::int64_t together = planes ? kernels.lanes : 1, each = (even->rows + together - 1) / together;
    step.items = static_cast<std::int64_t>(even->starts.size()) * each;
    step.run = [=, run = planes ? kernels.normalise_planes : kernels.normalise_rows, even = *even,
                features = static_cast<std::int64_t>(lines.steps.size()), epsilon = static_cast<float>(norm.epsilon)](
                   const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        for (std::int64_t item = begin; item < end;) {
            const std::int64_t first = item % each, count = std::min(each - first, end - item);
            const std::int64_t at = even.starts[static_cast<std::size_t>(item / each)] + first * together;
            run({frame.floats(from + at), frame.floats(to + at), 1, even.plane,
                 std::min(count * together, even.rows - first * together), features,
                 weight.empty() ? nullptr : weight.data(), bias.empty() ? nullptr : bias.data(), epsilon});
            item += count;
        }
    };
}

}  // namespace

const Lowering lowerings::softmax = {
    .read = read_softmax, .cycles = streaming, .compile = compile_softmax, .arrange = arrange_alike};
const Lowering lowerings::layer_norm = {
    .read = read_layer_norm, .cycles = streaming, .compile = compile_layer_norm, .arrange = arrange_alike};

}  // namespace secateur
