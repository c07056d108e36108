#include "engine.hpp"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "declared.hpp"
#include "failure.hpp"

namespace secateur::packfile {
namespace {

bool crosses(const Node& node) { return find_operation(node.op)->ordinary >= 0; }

std::size_t numbers_in(const Shape& shape) { return static_cast<std::size_t>(product_of(shape).whole()); }

// As network/stages.py divides a graph: depths say how often what a value is made of was gathered or scattered, and are odd
// for ordinary values. A stage is all of a depth but for what crosses to it.
class Division {
   public:
    Division(const Graph& graph, const Checked& checked) : graph_(graph), checked_(checked) {
        keep_what_is_read();
        for (const Node* node : nodes_)
            if (!crosses(*node) && all_constant(*node)) constants_.insert(node->name);
        for (const Input& each : graph.inputs) depths_[each.name] = 0;
        for (const Node* node : nodes_)
            if (constants_.count(node->name) == 0) depths_[node->name] = depth_of(*node);
        note_what_is_handed_on();
    }

    struct Stage {
        std::vector<const Node*> crossing;
        Graph part;  // without nodes where all of the depth crosses
        bool ordinary;
    };

    std::vector<Stage> stages() const {
        std::map<int, std::vector<const Node*>> crossing, within;
        for (const Node* node : nodes_)
            if (const auto depth = depths_.find(node->name); depth != depths_.end())
                (crosses(*node) ? crossing : within)[depth->second].push_back(node), within[depth->second];
        std::vector<Stage> found;
        for (const auto& [depth, own] : within) {
            const auto moved = crossing.find(depth);
            found.push_back(
                {moved == crossing.end() ? std::vector<const Node*>{} : moved->second, part_of(own), depth % 2 == 1});
        }
        return found;
    }

    // Constants that no stage makes: outputs, and what is scattered.
    std::vector<const Node*> loose_constants() const {
        std::unordered_set<std::string> wanted(graph_.outputs.begin(), graph_.outputs.end());
        for (const Node* node : nodes_)
            if (find_operation(node->op)->ordinary == 0) wanted.insert(node->inputs[0]);
        std::vector<const Node*> found;
        for (const Node* node : nodes_)
            if (constants_.count(node->name) > 0 && wanted.count(node->name) > 0) found.push_back(node);
        return found;
    }

   private:
    void keep_what_is_read() {
        std::unordered_set<std::string> wanted(graph_.outputs.begin(), graph_.outputs.end());
        for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node)
            if (wanted.count(node->name) > 0)
                nodes_.push_back(&*node), wanted.insert(node->inputs.begin(), node->inputs.end());
        std::reverse(nodes_.begin(), nodes_.end());
    }

    bool all_constant(const Node& node) const {
        return std::all_of(node.inputs.begin(), node.inputs.end(),
                           [&](const auto& name) { return constants_.count(name) > 0; });
    }

    int depth_of(const Node& node) const {
        const int own = checked_.ordinary.count(node.name) > 0 ? 1 : 0;
        int most = -1;
        for (const std::string& name : node.inputs)
            if (const auto found = depths_.find(name); found != depths_.end()) most = std::max(most, found->second);
        if (most < 0) most = own;
        return most + (most + own) % 2;
    }

    int depth_of(const std::string& value) const {
        const auto found = depths_.find(value);
        return found == depths_.end() ? -1 : found->second;
    }

    void note_what_is_handed_on() {
        handed_on_.insert(graph_.outputs.begin(), graph_.outputs.end());
        for (const Node* node : nodes_)
            for (const std::string& name : node->inputs)
                if (crosses(*node) || depth_of(name) != depth_of(node->name)) handed_on_.insert(name);
    }

    // These nodes, and the constants that they are made with.
    Graph part_of(const std::vector<const Node*>& own) const {
        std::unordered_set<std::string> needed;
        for (const Node* node : own) needed.insert(node->inputs.begin(), node->inputs.end());
        std::unordered_set<std::string> inside;
        for (const Node* node : own) inside.insert(node->name);
        for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node)
            if (constants_.count((*node)->name) > 0 && needed.count((*node)->name) > 0) {
                inside.insert((*node)->name);
                needed.insert((*node)->inputs.begin(), (*node)->inputs.end());
            }
        Graph part;
        std::unordered_set<std::string> seen, weights;
        for (const Node* node : nodes_) {
            if (inside.count(node->name) == 0) continue;
            part.nodes.push_back(*node);
            for (const auto& [role, name] : node->weights) weights.insert(name);
            for (const std::string& name : node->inputs)
                if (inside.count(name) == 0 && seen.insert(name).second) add_input(part, name);
        }
        for (const Node* node : own)
            if (handed_on_.count(node->name) > 0) part.outputs.push_back(node->name);
        for (const Stored& each : graph_.weights)
            if (weights.count(each.name) > 0) part.weights.push_back(each);
        return part;
    }

    void add_input(Graph& part, const std::string& name) const {
        const Element& element = checked_.elements.at(name);
        if (element.quantised)
            throw Unsupported("value " + quoted(name) +
                              " is quantised, and not all who read it run image by image: dequantise it");
        part.inputs.push_back({name, checked_.shapes.at(name)});
        if (element.format != "float32") part.elements[name] = element.format;
    }

    const Graph& graph_;
    const Checked& checked_;
    std::vector<const Node*> nodes_;
    std::unordered_set<std::string> constants_, handed_on_;
    std::unordered_map<std::string, int> depths_;
};

}  // namespace

struct Engine::Whole {
    Entries entries;
    mutable secateur::Session session;

    Whole(const Graph& graph, const Checked& checked, const Weights& weights, const Setting& setting)
        : entries(entries_of(graph, checked, weights)),
          session(entries.network, setting.kernels, setting.costs, setting.threads) {}
};

class Engine::Staged {
   public:
    Staged(const Graph& graph, const Checked& checked, const Weights& weights, const Setting& setting) {
        const Division division(graph, checked);
        for (const Input& each : graph.inputs) inputs_.push_back({each.name, numbers_in(each.shape)});
        for (const std::string& each : graph.outputs) outputs_.push_back({each, numbers_in(checked.shapes.at(each))});
        for (const Node* node : division.loose_constants()) constants_[node->name] = constant_of(*node, weights);
        for (auto& stage : division.stages()) {
            Step step;
            for (const Node* node : stage.crossing)
                step.crossing.push_back({node->name, node->inputs[0], find_operation(node->op)->ordinary == 1});
            step.ordinary = stage.ordinary;
            if (!stage.part.nodes.empty()) make(step, stage.part, weights, setting);
            steps_.push_back(std::move(step));
        }
    }

    void run(const void* const* inputs, void* const* outputs, std::int64_t images) const {
        Values values;
        for (std::size_t i = 0; i < inputs_.size(); ++i)
            values[inputs_[i].name] = {static_cast<const float*>(inputs[i]), images, {}};
        for (const auto& [name, numbers] : constants_) values[name] = {numbers.data(), 1, {}};
        for (const Step& step : steps_) run_step(step, values, images);
        for (std::size_t i = 0; i < outputs_.size(); ++i)
            spread(values.at(outputs_[i].name), outputs_[i].numbers, images, static_cast<float*>(outputs[i]));
    }

   private:
    struct Place {
        std::string name;
        std::size_t numbers;  // in one row
    };
    struct Crossing {
        std::string name, of;
        bool gathers;
    };
    struct Step {
        std::vector<Crossing> crossing;
        bool ordinary = false;
        std::vector<Place> inputs, outputs;
        std::unique_ptr<Whole> whole;  // null where there is nothing but crossing
    };
    struct Value {
        const float* numbers;
        std::int64_t rows;
        std::shared_ptr<std::vector<float>> own;
    };
    using Values = std::unordered_map<std::string, Value>;

    static void make(Step& step, const Graph& part, const Weights& weights, const Setting& setting) {
        const Checked checked = check_graph(part);
        for (const Input& each : part.inputs) step.inputs.push_back({each.name, numbers_in(each.shape)});
        for (const std::string& each : part.outputs)
            step.outputs.push_back({each, numbers_in(checked.shapes.at(each))});
        step.whole = std::make_unique<Whole>(part, checked, weights, setting);
    }

    // (N, …) and (1, N, …) lie alike.
    static void run_step(const Step& step, Values& values, std::int64_t images) {
        for (const Crossing& each : step.crossing) {
            Value moved = values.at(each.of);
            moved.rows = each.gathers ? 1 : images;
            values[each.name] = std::move(moved);
        }
        if (step.whole == nullptr) return;
        const std::int64_t rows = step.ordinary ? 1 : images;
        std::vector<std::vector<float>> copies;
        std::vector<const void*> from;
        std::vector<void*> to;
        copies.reserve(step.inputs.size());
        for (const Place& each : step.inputs) {
            const Value& value = values.at(each.name);
            if (value.rows == rows) {
                from.push_back(value.numbers);
                continue;
            }
            copies.emplace_back(each.numbers * static_cast<std::size_t>(rows));
            spread(value, each.numbers, rows, copies.back().data());
            from.push_back(copies.back().data());
        }
        for (const Place& each : step.outputs) {
            auto own = std::make_shared<std::vector<float>>(each.numbers * static_cast<std::size_t>(rows));
            to.push_back(own->data());
            values[each.name] = {own->data(), rows, own};
        }
        step.whole->session.run(from.data(), to.data(), rows);
    }

    // With so many rows: an ordinary value is repeated.
    static void spread(const Value& value, std::size_t numbers, std::int64_t rows, float* into) {
        const std::size_t bytes = numbers * sizeof(float);
        if (bytes == 0) return;
        for (std::int64_t row = 0; row < rows; ++row)
            std::memcpy(into + static_cast<std::size_t>(row) * numbers,
                        value.numbers + (value.rows == rows ? static_cast<std::size_t>(row) * numbers : 0), bytes);
    }

    std::vector<Place> inputs_, outputs_;
    std::map<std::string, std::vector<float>> constants_;
    std::vector<Step> steps_;
};

Engine::Engine(const Graph& graph, const Checked& checked, const Weights& weights, const Setting& setting) {
    if (std::any_of(graph.nodes.begin(), graph.nodes.end(), crosses))
        staged_ = std::make_unique<Staged>(graph, checked, weights, setting);
    else whole_ = std::make_unique<Whole>(graph, checked, weights, setting);
}

Engine::~Engine() = default;

void Engine::run(const void* const* inputs, void* const* outputs, std::int64_t images) const {
    if (staged_ != nullptr) staged_->run(inputs, outputs, images);
    else whole_->session.run(inputs, outputs, images);
}

}  // namespace secateur::packfile
