// Values of eight bits: into them, out of them, and what is done with them outside layers.
#include <algorithm>
#include <cmath>

#include "arranging.hpp"
#include "byte_operations.hpp"
#include "compiler.hpp"
#include "lowerings/crossing.hpp"
#include "lowerings/lowering.hpp"
#include "lowerings/pieces.hpp"
#include "lowerings/pooling.hpp"
#include "operations.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

// ---- Between floats and bytes -----------------------------------------------------------------------------------

bool planes_alike(const FusedNetwork& network, const Operation& operation, int lanes) {
    const Shape &from = network.shapes[operation.inputs[0]], &to = network.shapes[operation.output];
    return foldable(from, lanes) && foldable(to, lanes) && from[1] == to[1] && from[2] == to[2];
}

// An input of the network becomes bytes before it is folded, when there is less to move.
bool folds_quantised(const FusedNetwork& network, const Operation& operation, int lanes) {
    const bool given =
        std::find(network.inputs.begin(), network.inputs.end(), operation.inputs[0]) != network.inputs.end();
    return !given && planes_alike(network, operation, lanes);
}

constexpr FoldingRules kQuantiseFolding = {.possible = folds_quantised};
constexpr FoldingRules kDequantiseFolding = {.possible = planes_alike};

std::optional<Kind> read_quantise(const Node& node) {
    if (node.op != "quantise") return {};
    const std::int32_t zero = zero_of(node, "zero_point");
    const float shift = static_cast<float>(zero);
    return kind::Quantise{number_of(node, "inverse"), 0.0f - shift, 255.0f - shift, zero};
}

void compile_quantise(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const auto& how = std::get<kind::Quantise>(operation.kind);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "loop");
    const Crossing crossing = crossing_of(setting.network.whole[operation.output], setting.input(operation),
                                          setting.output(operation), setting.images);
    step.items = static_cast<std::int64_t>(crossing.groups.size());
    step.run = [=, bytes = setting.kernels.bytes](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        quantise_groups(*bytes, crossing, how, begin, end, frame.floats(from), frame.words(to));
    };
}

std::optional<Kind> read_dequantise(const Node& node) {
    if (node.op != "dequantise") return {};
    return kind::Dequantise{number_of(node, "scale"), zero_of(node, "zero_point")};
}

void compile_dequantise(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const auto& how = std::get<kind::Dequantise>(operation.kind);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "loop");
    const Crossing crossing = crossing_of(setting.network.whole[operation.output], setting.output(operation),
                                          setting.input(operation), setting.images);
    step.items = static_cast<std::int64_t>(crossing.groups.size());
    step.run = [=, bytes = setting.kernels.bytes](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        for (std::int64_t item = begin; item < end; ++item) {
            const Crossing::Group& group = crossing.groups[item];
            const Word* words = frame.words(from + group.words);
            if (crossing.lines) {
                bytes->dequantise_line({reinterpret_cast<const std::uint8_t*>(words),
                                        frame.floats(to + group.floats[0]), crossing.count, how.scale, how.zero});
                continue;
            }
            Dequantising run{words, {}, crossing.count, how.scale, how.zero};
            for (int i = 0; i < 4; ++i)
                run.planes[i] = group.floats[i] < 0 ? nullptr : frame.floats(to + group.floats[i]);
            bytes->dequantise(run);
        }
    };
}

// Planes of features become planes of words of them, and the other way round.
void arrange_crossing(Arrangement& arrangement, Operation& operation) {
    const int from = operation.inputs[0];
    const Storage storage = arrangement.storage(from);
    if (storage.dims.size() != 2 || storage.strides[0] != 1 || storage.strides[1] == 1)
        return arrangement.bring_plainly(operation, 0);
    const std::int64_t features = arrangement.dims(operation.output).back();
    arrangement.put(operation, feature_planes_like(storage, features, arrangement.lanes()));
}

// ---- Two values -------------------------------------------------------------------------------------------------

struct Bounds {
    float low, high;
    std::int32_t zero;
};

Bounds bounds_of(const Node& node) {
    const std::int32_t zero = zero_of(node, "output_zero_point");
    return {number_of(node, "low") - static_cast<float>(zero), number_of(node, "high") - static_cast<float>(zero),
            zero};
}

std::optional<Kind> read_pair(const Node& node) {
    const bool product = node.op == "quantised_mul";
    if (!product && node.op != "quantised_add") return {};
    const Bounds bounds = bounds_of(node);
    return kind::BytePair{product,
                          number_of(node, "left_factor"),
                          product ? 1.0f : number_of(node, "right_factor"),
                          bounds.low,
                          bounds.high,
                          zero_of(node, "left_zero_point"),
                          zero_of(node, "right_zero_point"),
                          bounds.zero};
}

BytePairs pairs_of(const kind::BytePair& how) {
    return {nullptr,  nullptr,       nullptr,        0,       0, 0, how.left_scale, how.right_scale, how.low,
            how.high, how.left_zero, how.right_zero, how.zero};
}

// Every position in the target's dims, of which `whole` are the elements.
std::vector<BytePlace> places_as(const Shape& own, const Storage& storage, const Shape& whole) {
    const std::vector<BytePlace> places = byte_places(own, storage);
    Shape padded(whole.size() - own.size(), 1);
    padded.insert(padded.end(), own.begin(), own.end());
    std::vector<std::int64_t> strides = dense_strides(padded, 1);
    for (std::size_t axis = 0; axis < padded.size(); ++axis)
        if (padded[axis] == 1) strides[axis] = 0;
    std::vector<BytePlace> found;
    for (std::int64_t at : offsets_of(whole, strides)) found.push_back(places[static_cast<std::size_t>(at)]);
    return found;
}

void compile_pair(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const auto& how = std::get<kind::BytePair>(operation.kind);
    const Storage &target = setting.output(operation), &left = setting.input(operation, 0),
                  &right = setting.input(operation, 1);
    const std::int64_t a = compiler.place(operation.inputs[0]), b = compiler.place(operation.inputs[1]),
                       to = compiler.place(operation.output), size = target.size;
    const auto run = how.product ? setting.kernels.bytes->multiply : setting.kernels.bytes->add;
    Step& step = compiler.push(operation, "loop");
    if (left.dims == target.dims && right.dims == target.dims) {
        step.items = pieces_of(size);
        step.run = [=, all = step.items](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
            const std::int64_t first = edge_of(size, begin, all), last = edge_of(size, end, all);
            BytePairs pairs = pairs_of(how);
            pairs.left = frame.words(a + first), pairs.right = frame.words(b + first);
            pairs.target = frame.words(to + first);
            pairs.left_step = pairs.right_step = 1, pairs.count = last - first;
            run(pairs);
        };
        return;
    }
    const Shape &whole = setting.network.whole[operation.output],
                &left_whole = setting.network.whole[operation.inputs[0]],
                &right_whole = setting.network.whole[operation.inputs[1]];
    const auto lefts = places_as(left_whole, left, whole), rights = places_as(right_whole, right, whole),
               targets = byte_places(whole, target);
    ByteBroadcast broadcast{{}, how};
    for (std::size_t i = 0; i < targets.size(); ++i) broadcast.pairs.push_back({lefts[i], rights[i], targets[i]});
    step.run = [=, broadcast = std::move(broadcast), images = setting.images](const Frame& frame, std::int64_t,
                                                                              std::int64_t, Word*) {
        broadcast.run(frame.words(a), frame.words(b), frame.words(to), images);
    };
}

// ---- One value --------------------------------------------------------------------------------------------------

std::optional<Kind> read_table(const Node& node) {
    if (node.op != "quantised_table") return {};
    const std::int32_t* held = node.weights.at("table").integers;
    kind::ByteTable table{};
    for (std::size_t i = 0; i < table.bytes.size(); ++i) table.bytes[i] = static_cast<std::uint8_t>(held[i]);
    return table;
}

void compile_table(Compiler& compiler, const Operation& operation) {
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output),
                       size = compiler.setting().output(operation).size;
    Step& step = compiler.push(operation, "loop");
    step.items = pieces_of(size);
    step.run = [=, all = step.items, bytes = std::get<kind::ByteTable>(operation.kind).bytes](
                   const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        const std::int64_t first = edge_of(size, begin, all), last = edge_of(size, end, all);
        look_up_bytes(bytes, frame.words(from + first), frame.words(to + first), last - first);
    };
}

// ---- Pools and means --------------------------------------------------------------------------------------------

kind::ByteAverage average_in(const Node& node) {
    const std::int32_t zero = zero_of(node, "output_zero_point");
    return {node.numbers.at("input_scale"),    node.numbers.at("output_scale"),   0.0f - static_cast<float>(zero),
            255.0f - static_cast<float>(zero), zero_of(node, "input_zero_point"), zero};
}

std::optional<Kind> read_pool(const Node& node) {
    const bool average = node.op == "quantised_avg_pool2d";
    if (!average && (node.op != "max_pool2d" || node.element != Element::kUint8)) return {};
    kind::Pool pool{integers_of(node, "kernel"),
                    integers_of(node, "stride"),
                    integers_of(node, "padding"),
                    average ? std::vector<std::int64_t>{1, 1} : integers_of(node, "dilation"),
                    average,
                    average && integer_of(node, "count_include_pad") != 0};
    return kind::BytePool{std::move(pool), average ? average_in(node) : kind::ByteAverage{}};
}

double pool_cycles(const Setting& setting, const Operation& operation) {
    return streaming(setting, operation, setting.images == 1 ? 0.16 : 0.05);
}

void add_pool(Compiler& compiler, const Operation& operation, const kind::Pool& pool,
              const kind::ByteAverage& average) {
    const Setting& setting = compiler.setting();
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    std::vector<float> factors{0.0f};
    if (pool.average)
        for (std::int64_t count = 1; count <= pool.kernel[0] * pool.kernel[1]; ++count)
            factors.push_back(factor_of(average, count));
    const PoolRun run = pool_run(pool, setting.input(operation), setting.output(operation), setting.images);
    Step& step = compiler.push(operation, "loop");
    step.items = setting.input(operation).dims[0];
    step.work = pool_work(run, setting.output(operation));
    step.run = [=, bytes = setting.kernels.bytes](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        BytePool part{run, factors.data(), average.low, average.high, average.input_zero, average.zero};
        part.pool.source = frame.floats(from + begin * run.source_channel);
        part.pool.target = frame.floats(to + begin * run.target_channel);
        part.pool.channels = static_cast<int>(end - begin);
        bytes->pool(part);
    };
}

void compile_pool(Compiler& compiler, const Operation& operation) {
    const auto& [pool, average] = std::get<kind::BytePool>(operation.kind);
    add_pool(compiler, operation, pool, average);
}

std::optional<Kind> read_mean(const Node& node) {
    if (node.op == "quantised_adaptive_avg_pool2d") return kind::ByteMean{{}, average_in(node)};
    if (node.op == "quantised_mean") return kind::ByteMean{axes_of(node, "axes"), average_in(node)};
    return {};
}

// Of whole planes: a pool with a window as large.
bool averages_planes(const Shape& source, const Shape& target, std::vector<std::int64_t> axes) {
    std::sort(axes.begin(), axes.end());
    if (source.size() != 3) return false;
    return axes.empty() ? target[1] == 1 && target[2] == 1 : axes == std::vector<std::int64_t>{1, 2};
}

void compile_mean(Compiler& compiler, const Operation& operation) {
    const auto& [axes, average] = std::get<kind::ByteMean>(operation.kind);
    const Setting& setting = compiler.setting();
    const Shape &source = setting.network.whole[operation.inputs[0]], &target = setting.network.whole[operation.output];
    if (averages_planes(source, target, axes))
        return add_pool(compiler, operation, {{source[1], source[2]}, {1, 1}, {0, 0, 0, 0}, {1, 1}, true, false},
                        average);
    const auto from_places = byte_places(source, setting.input(operation)),
               to_places = byte_places(target, setting.output(operation));
    const Averaged averaged = axes.empty() ? averaged_adaptively(source, target) : averaged_over(source, axes);
    std::vector<ByteMeans::Window> windows;
    for (std::size_t i = 0; i < averaged.size(); ++i) {
        ByteMeans::Window window{to_places[i], {}};
        for (std::int64_t at : averaged[i]) window.sources.push_back(from_places[static_cast<std::size_t>(at)]);
        windows.push_back(std::move(window));
    }
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "loop");
    step.work = static_cast<double>(std::max(elements(source), elements(target)));
    step.run = [=, means = ByteMeans(std::move(windows), average), images = setting.images](
                   const Frame& frame, std::int64_t, std::int64_t, Word*) {
        means.run(frame.words(from), frame.words(to), images);
    };
}

}  // namespace

const Lowering lowerings::quantise = {.read = read_quantise,
                                      .cycles = streaming,
                                      .compile = compile_quantise,
                                      .folding = &kQuantiseFolding,
                                      .arrange = arrange_crossing};
const Lowering lowerings::dequantise = {.read = read_dequantise,
                                        .cycles = streaming,
                                        .compile = compile_dequantise,
                                        .folding = &kDequantiseFolding,
                                        .arrange = arrange_crossing};
const Lowering lowerings::byte_pair = {.read = read_pair,
                                       .cycles = streaming,
                                       .compile = compile_pair,
                                       .folding = &kElementwiseFolding,
                                       .arrange = arrange_alike};
const Lowering lowerings::byte_table = {.read = read_table,
                                        .cycles = streaming,
                                        .compile = compile_table,
                                        .folding = &kElementwiseFolding,
                                        .arrange = arrange_alike};
const Lowering lowerings::byte_pool = {.read = read_pool, .cycles = pool_cycles, .compile = compile_pool};
const Lowering lowerings::byte_mean = {.read = read_mean, .cycles = streaming, .compile = compile_mean};

}  // namespace secateur
