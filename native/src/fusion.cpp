#include "fusion.hpp"

#include "lowerings/lowering.hpp"
#include "storage.hpp"

namespace secateur {

std::int64_t elements(const Shape& shape) {
    std::int64_t count = 1;
    for (auto size : shape) count *= size;
    return count;
}

namespace {

// For every value the index of the node that reads it, if that is one node once and no output is the value; else −1.
std::vector<int> find_readers(const Network& network) {
    const std::size_t values = network.inputs.size() + network.nodes.size();
    std::vector<int> count(values, 0), reader(values, -1);
    for (std::size_t i = 0; i < network.nodes.size(); ++i)
        for (int input : network.nodes[i].inputs) ++count[input], reader[input] = static_cast<int>(i);
    for (std::size_t v = 0; v < values; ++v)
        if (count[v] != 1) reader[v] = -1;
    for (int output : network.outputs) reader[output] = -1;
    return reader;
}

class Fusion {
   public:
    explicit Fusion(const Network& network)
        : network_(network), readers_(find_readers(network)), taken_(network.nodes.size(), false),
          inputs_(static_cast<int>(network.inputs.size())) {
        for (const Node& node : network.nodes) read_.push_back(read_operation(node));
    }

    FusedNetwork run() {
        FusedNetwork fused;
        const auto add_value = [&](const Shape& shape, Element element) {
            fused.shapes.push_back(words_of(shape, element)), fused.elements.push_back(element),
                fused.whole.push_back(shape), fused.fills.push_back(Word{0});
        };
        for (const Shape& shape : network_.inputs) add_value(shape, Element::kFloat32);
        for (int i = 0; i < inputs_; ++i) fused.inputs.push_back(i);
        for (const Node& node : network_.nodes) add_value(node.shape, node.element);
        for (const Operation& each : read_)
            if (const Filter* filter = filter_of(each.kind); filter != nullptr && filter->bytes)
                fused.fills[each.inputs[0]] = filter->bytes->fill();
        fused.outputs = network_.outputs;
        std::vector<std::pair<int, Operation>> placed;  // by the position of its last node
        for (int i = 0; i < static_cast<int>(network_.nodes.size()); ++i) {
            if (taken_[i]) continue;
            int last = i;
            Operation operation = start(i, last);
            placed.emplace_back(last, std::move(operation));
        }
        std::vector<int> order(network_.nodes.size(), -1);
        for (std::size_t i = 0; i < placed.size(); ++i) order[placed[i].first] = static_cast<int>(i);
        for (int index : order)
            if (index >= 0) fused.operations.push_back(std::move(placed[index].second));
        return fused;
    }

   private:
    Operation start(int index, int& last) {
        Operation operation = read_[index];
        if (Filter* filter = filter_of(operation.kind); filter != nullptr && !filter->bytes) {
            last = fold_affine(operation, *filter, last);
            last = fold_add(operation, last);
        }
        const Filter* filter = filter_of(operation.kind);
        if (operation.lowering->clamps && (filter == nullptr || !filter->bytes)) last = fold_clamp(operation, last);
        operation.output = inputs_ + last;
        return operation;
    }

    // The node that alone reads what node `last` makes, if it is of that kind, else null.
    template <typename Wanted>
    const Wanted* reader(int last, int& index) const {
        index = readers_[inputs_ + last];
        return index < 0 || taken_[index] ? nullptr : std::get_if<Wanted>(&read_[index].kind);
    }

    int take(Operation& operation, int index) {
        taken_[index] = true;
        operation.fused += "+" + network_.nodes[index].op;
        return index;
    }

    int fold_affine(Operation& operation, Filter& filter, int last) {
        int index;
        const auto* affine = reader<kind::Affine>(last, index);
        const bool channels_lead =
            std::holds_alternative<kind::Convolution>(operation.kind) || network_.nodes[last].shape.size() == 1;
        if (affine == nullptr || !channels_lead) return last;
        filter.scale = affine->scale;
        for (std::size_t c = 0; c < filter.bias.size(); ++c)
            filter.bias[c] = filter.bias[c] * filter.scale[c] + affine->shift[c];
        return take(operation, index);
    }

    int fold_add(Operation& operation, int last) {
        int index;
        const auto* sum = reader<kind::Binary>(last, index);
        if (sum == nullptr || !kScalarKernels.binaries[sum->function].adds) return last;
        const Node& next = network_.nodes[index];
        const int other = next.inputs[0] == inputs_ + last ? next.inputs[1] : next.inputs[0];
        const Shape& shape = other < inputs_ ? network_.inputs[other] : network_.nodes[other - inputs_].shape;
        if (shape != next.shape || network_.nodes[last].shape != next.shape || next.inputs[0] == next.inputs[1] ||
            constant(other))
            return last;
        operation.residual = true;
        operation.inputs.push_back(other);
        return take(operation, index);
    }

    int fold_clamp(Operation& operation, int last) {
        int index;
        const auto* unary = reader<kind::Unary>(last, index);
        if (unary == nullptr || !kScalarKernels.unaries[unary->function].clamps) return last;
        operation.clamp = {static_cast<float>(unary->parameters[0]), static_cast<float>(unary->parameters[1])};
        return take(operation, index);
    }

    bool constant(int value) const { return value >= inputs_ && read_[value - inputs_].lowering->constant; }

    const Network& network_;
    std::vector<Operation> read_;  // every node on its own
    std::vector<int> readers_;
    std::vector<bool> taken_;
    int inputs_;
};

}  // namespace

FusedNetwork fuse(const Network& network) { return Fusion(network).run(); }

}  // namespace secateur
