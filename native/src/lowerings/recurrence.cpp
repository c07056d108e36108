// Recurrent layers, and sums along an axis: what is done step by step.
#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "compiler.hpp"
#include "lowerings/layers.hpp"
#include "lowerings/lowering.hpp"
#include "operations.hpp"
#include "plain_convolution.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

// ---- Recurrent layers -------------------------------------------------------------------------------------------

std::optional<Cell> cell_of(const Node& node) {
    if (node.op == "lstm") return kLstm;
    if (node.op == "gru") return kGru;
    if (node.op == "rnn") return node.texts.at("activation") == "relu" ? kRelu : kTanh;
    return {};
}

std::optional<Kind> read_recurrence(const Node& node) {
    const auto cell = cell_of(node);
    if (!cell) return {};
    return kind::Recurrence{filter_in(node), *cell, integer_of(node, "reverse") != 0};
}

const kind::Recurrence& layer_of(const Operation& operation) { return std::get<kind::Recurrence>(operation.kind); }

// One vector of so many numbers.
Storage vector_storage(std::int64_t size, int images) { return {{size}, {images}, size * images}; }

// The product of the states: one image times a vector, several by tiles.
Site site_of(const Setting& setting, const Filter& filter) {
    return linear_site(filter, vector_storage(filter.span(), setting.images),
                       vector_storage(filter.outputs(), setting.images), setting.images);
}

LayerChoice choose(const Setting& setting, const Operation& operation) {
    const Filter& filter = layer_of(operation).filter;
    if (setting.images == 1) return choose_vector(filter, 1, setting.kernels);
    return choose_tiles(filter, site_of(setting, filter), setting.kernels, setting.costs);
}

// How many sequences there are, and how long they are.
std::pair<std::int64_t, std::int64_t> sequences_of(const Setting& setting, const Operation& operation) {
    const Shape& dims = setting.input(operation).dims;
    return {elements(Shape(dims.begin(), dims.end() - 2)), dims[dims.size() - 2]};
}

double recurrence_cycles(const Setting& setting, const Operation& operation) {
    if (elements(setting.output(operation).dims) == 0) return 0;
    const auto [sequences, length] = sequences_of(setting, operation);
    const double gates = static_cast<double>(layer_of(operation).filter.outputs() * setting.images);
    const double each = choose(setting, operation).cycles + 15.0 * gates / setting.kernels.lanes;
    return static_cast<double>(sequences * length) * each + traffic(setting, operation);
}

// What is fed back of states: weights times each, and the bias.
struct Feedback {
    std::function<void(std::span<const Multiplied> states, Word* scratch)> run;
    std::string name;
    std::int64_t nonzeros;
    std::size_t bytes, scratch_words;
};

template <typename Layer>
Feedback keep_layer(Compiler& compiler, std::shared_ptr<Layer> layer) {
    layer->shelve(compiler.shelf());
    const auto run = [layer](std::span<const Multiplied> states, Word* scratch) {
        if constexpr (std::is_same_v<Layer, VectorProduct>) return layer->run(0, layer->items(), states, scratch);
        else
            for (const auto& [state, none, fed] : states) layer->run(0, layer->items(), state, none, fed, scratch);
    };
    return {run, layer->describe(), layer->nonzeros(), layer->bytes(), layer->scratch_words()};
}

Feedback make_feedback(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Filter& filter = layer_of(operation).filter;
    const LayerChoice choice = choose(setting, operation);
    if (std::holds_alternative<AsVector>(choice.way))
        return keep_layer(compiler, std::make_shared<VectorProduct>(matrix_problem(filter, setting.kernels), Clamp{},
                                                                    setting.kernels, 1));
    const Site site = site_of(setting, filter);
    if (const auto* tiles = std::get_if<Choice>(&choice.way))
        return keep_layer(compiler, std::make_shared<Convolution>(filter, Clamp{}, site.shape, site.input, site.output,
                                                                  setting.kernels, setting.costs.floats, *tiles, 1));
    return keep_layer(compiler,
                      std::make_shared<PlainConvolution>(filter, Clamp{}, site.shape, site.input, site.output));
}

// Where a sequence, its first state and what becomes of it lie.
struct Sequence {
    std::int64_t given, made, hidden, cell;  // places; the last two −1: zeros
};

std::vector<Sequence> places_of(const Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const auto starts = [&](int value, std::size_t fewer) {
        const Storage& storage = setting.storages[value];
        Offsets found = offsets_of(Shape(storage.dims.begin(), storage.dims.end() - static_cast<std::ptrdiff_t>(fewer)),
                                   storage.strides);
        for (std::int64_t& each : found) each += compiler.place(value);
        return found;
    };
    const Offsets given = starts(operation.inputs[0], 2), made = starts(operation.output, 2);
    const std::size_t states = operation.inputs.size();
    const Offsets none(given.size(), -1), hidden = states > 1 ? starts(operation.inputs[1], 1) : none,
                                          cell = states > 2 ? starts(operation.inputs[2], 1) : none;
    std::vector<Sequence> found;
    for (std::size_t i = 0; i < given.size(); ++i) found.push_back({given[i], made[i], hidden[i], cell[i]});
    return found;
}

class Recurrence {
   public:
    Recurrence(Compiler& compiler, const Operation& operation, const Feedback& feedback)
        : sequences_(places_of(compiler, operation)), feed_(feedback.run),
          advance_(compiler.setting().kernels.steps[layer_of(operation).cell]), reverse_(layer_of(operation).reverse) {
        const Setting& setting = compiler.setting();
        const Storage &input = setting.input(operation), &output = setting.output(operation);
        const std::size_t axis = input.dims.size() - 2;
        length_ = input.dims[axis], given_step_ = input.strides[axis], made_step_ = output.strides[axis];
        const Filter& filter = layer_of(operation).filter;
        count_ = filter.span() * setting.images, fed_ = filter.outputs() * setting.images;
    }

    std::int64_t items() const { return static_cast<std::int64_t>(sequences_.size()); }
    std::int64_t length() const { return length_; }
    // Of its own, before that of what is fed back.
    std::size_t scratch_words() const {
        return static_cast<std::size_t>(state_words() + kVectorsTogether * fed_words());
    }

    // The sequences [begin, end) of each frame, as many at a time as share the loads of weights.
    void run(std::span<const Frame> frames, std::int64_t begin, std::int64_t end, Word* scratch) const {
        std::fill_n(scratch, state_words(), Word{0});
        Running running[kVectorsTogether];
        std::size_t count = 0;
        for (const Frame& frame : frames)
            for (std::int64_t item = begin; item < end; ++item) {
                running[count++] = start(frame, sequences_[static_cast<std::size_t>(item)], scratch);
                if (count == kVectorsTogether) finish({running, std::exchange(count, 0)}, scratch);
            }
        if (count > 0) finish({running, count}, scratch);
    }

   private:
    // A sequence at some step: the states before it, and where those lie that it is given and makes at the first step.
    struct Running {
        const Word *hidden, *cell, *given;
        Word* made;
    };

    std::int64_t fed_words() const { return round_up(fed_ + kOverread, 16); }
    std::int64_t state_words() const { return round_up(count_ + kOverread, 16); }

    // zeros: a state of them.
    Running start(const Frame& frame, const Sequence& at, const Word* zeros) const {
        return {at.hidden < 0 ? zeros : frame.words(at.hidden), at.cell < 0 ? zeros : frame.words(at.cell),
                frame.words(at.given), frame.words(at.made)};
    }

    void finish(std::span<Running> running, Word* scratch) const {
        Word *fed = scratch + state_words(), *rest = fed + kVectorsTogether * fed_words();
        for (std::int64_t i = 0; i < length_; ++i) step(running, reverse_ ? length_ - 1 - i : i, fed, rest);
    }

    void step(std::span<Running> running, std::int64_t time, Word* fed, Word* rest) const {
        Multiplied states[kVectorsTogether];
        for (std::size_t i = 0; i < running.size(); ++i)
            states[i] = {running[i].hidden, nullptr, fed + static_cast<std::int64_t>(i) * fed_words()};
        feed_({states, running.size()}, rest);
        for (std::size_t i = 0; i < running.size(); ++i) {
            auto& [hidden, cell, given, first] = running[i];
            Word* made = first + time * made_step_;
            advance_({as_floats(given + time * given_step_), as_floats(states[i].output), as_floats(hidden),
                      as_floats(cell), as_floats(made), count_});
            hidden = made, cell = made + count_;
        }
    }

    std::vector<Sequence> sequences_;
    std::function<void(std::span<const Multiplied>, Word*)> feed_;
    void (*advance_)(const GateRun&);
    bool reverse_;
    std::int64_t length_, given_step_, made_step_;  // steps, words between two of them
    std::int64_t count_, fed_;                      // numbers in a state, in what is fed back
};

void compile_recurrence(Compiler& compiler, const Operation& operation) {
    const Feedback feedback = make_feedback(compiler, operation);
    const Recurrence layer(compiler, operation, feedback);
    compiler.need_scratch(layer.scratch_words() + feedback.scratch_words);
    Step& step = compiler.push(operation, feedback.name);
    step.items = layer.items();
    step.report.predicted_cycles = recurrence_cycles(compiler.setting(), operation);
    report_weights(step.report, layer_of(operation).filter, "recurrent", layer.length() * layer.items(),
                   feedback.nonzeros, feedback.bytes);
    step.run_together([layer](std::span<const Frame> frames, std::int64_t begin, std::int64_t end,
                              Word* scratch) { layer.run(frames, begin, end, scratch); },
                      static_cast<double>(feedback.bytes) * static_cast<double>(layer.length() * layer.items()));
    step.at_once = kVectorsTogether;
}

// ---- Running sums -----------------------------------------------------------------------------------------------

std::optional<Kind> read_cumulation(const Node& node) {
    if (node.op != "cumsum") return {};
    return kind::Cumulation{axes_of(node, "axis")[0]};
}

void compile_cumulation(Compiler& compiler, const Operation& operation) {
    const std::int64_t axis = std::get<kind::Cumulation>(operation.kind).axis;
    const Setting& setting = compiler.setting();
    const Lines from = lines_of(setting.input(operation), axis, axis + 1),
                to = lines_of(setting.output(operation), axis, axis + 1);
    const std::int64_t source = compiler.place(operation.inputs[0]), target = compiler.place(operation.output);
    Step& step = compiler.push(operation, "loop");
    step.items = static_cast<std::int64_t>(to.starts.size());
    step.run = [=, images = setting.images](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        for (std::int64_t line = begin; line < end; ++line)
            sum_along(from, to, static_cast<std::size_t>(line), frame.floats(source), frame.floats(target), images);
    };
}

}  // namespace

const Lowering lowerings::recurrence = {
    .read = read_recurrence, .cycles = recurrence_cycles, .compile = compile_recurrence};
const Lowering lowerings::cumulation = {.read = read_cumulation, .cycles = streaming, .compile = compile_cumulation};

}  // namespace secateur
