// Numbers picked by their places, and places by their numbers.
#include <algorithm>
#include <array>
#include <cstdio>
#include <stdexcept>
#include <utility>

#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "lowerings/pieces.hpp"
#include "operations.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

std::optional<Kind> read_take(const Node& node) {
    if (node.op != "take") return {};
    return kind::Take{axes_of(node, "axis")[0], node.weights.at("indices")};
}

std::vector<std::int64_t> part_of(const std::vector<std::int64_t>& all, std::int64_t begin, std::int64_t end) {
    return {all.begin() + begin, all.begin() + end};
}

// For each position in the axes before the one that is picked from, and for each index, what lies behind it is copied.
void compile_take(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &source = setting.input(operation), &target = setting.output(operation);
    const auto& [axis, indices] = std::get<kind::Take>(operation.kind);
    const std::int64_t rank = static_cast<std::int64_t>(source.dims.size());
    const Shape before = part_of(source.dims, 0, axis);
    const Offsets reads = offsets_of(before, part_of(source.strides, 0, axis)),
                  writes = offsets_of(before, part_of(target.strides, 0, axis));
    Offsets picked;
    for (std::int64_t i = 0; i < indices.shape[0]; ++i) picked.push_back(indices.integers[i] * source.strides[axis]);
    const Copy behind(part_of(source.dims, axis + 1, rank), part_of(source.strides, axis + 1, rank),
                      part_of(target.strides, axis + 1, rank), setting.images);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "copy");
    step.items = static_cast<std::int64_t>(reads.size());
    step.run = [=, step_to = target.strides[axis], word = behind.dims.empty() && behind.length == 1,
                kernels = &setting.kernels](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        for (std::int64_t item = begin; item < end; ++item) {
            const Word* read = frame.words(from + reads[item]);
            Word* written = frame.words(to + writes[item]);
            if (word)
                for (std::size_t i = 0; i < picked.size(); ++i)
                    written[static_cast<std::int64_t>(i) * step_to] = read[picked[i]];
            else
                for (std::size_t i = 0; i < picked.size(); ++i)
                    behind.run(read + picked[i], written + static_cast<std::int64_t>(i) * step_to, *kernels);
        }
    };
}

// The index that a float is, of `size`. Throws std::out_of_range.
std::int64_t index_of(float value, std::int64_t size, const std::string& who) {
    if (value >= 0.0f && value < static_cast<float>(size)) return static_cast<std::int64_t>(value);
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
    throw std::out_of_range(who + ": index " + text + ": expected indices from 0 to " + std::to_string(size - 1));
}

std::string who(const Operation& operation) {
    return operation.fused.substr(0, operation.fused.find('+')) + " '" + operation.name + "'";
}

std::optional<Kind> read_embedding(const Node& node) {
    if (node.op != "embedding") return {};
    return kind::Embedding{node.weights.at("weight")};
}

void compile_embedding(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &ids = setting.input(operation), &target = setting.output(operation);
    const Array& table = std::get<kind::Embedding>(operation.kind).table;
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output),
                       length = table.shape[1], each = target.strides.back();
    const Offsets reads = offsets_of(ids.dims, ids.strides),
                  writes = offsets_of(ids.dims, part_of(target.strides, 0, static_cast<std::int64_t>(ids.dims.size())));
    Step& step = compiler.push(operation, "rows of a table");
    step.items = static_cast<std::int64_t>(reads.size());
    step.run = [=, rows = table.shape[0], data = table.data, images = setting.images, name = who(operation)](
                   const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        const auto row_of = [&](float id) { return data + index_of(id, rows, name) * length; };
        for (std::int64_t item = begin; item < end; ++item) {
            const float* id = frame.floats(from + reads[item]);
            float* written = frame.floats(to + writes[item]);
            if (images == 1) {
                std::copy_n(row_of(*id), length, written);
                continue;
            }
            for (int image = 0; image < frame.valid; ++image) {
                const float* row = row_of(id[image]);
                for (std::int64_t i = 0; i < length; ++i) written[i * each + image] = row[i];
            }
            for (std::int64_t i = 0; i < length; ++i)
                std::fill(written + i * each + frame.valid, written + i * each + images, 0.0f);
        }
    };
}

std::optional<Kind> read_gather(const Node& node) {
    if (node.op != "gather") return {};
    return kind::Gather{axes_of(node, "axis")[0]};
}

void compile_gather(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage &source = setting.input(operation, 0), &indices = setting.input(operation, 1),
                  &target = setting.output(operation);
    const std::int64_t axis = std::get<kind::Gather>(operation.kind).axis;
    auto around = source.strides;
    around[axis] = 0;
    const std::int64_t from = compiler.place(operation.inputs[0]), at = compiler.place(operation.inputs[1]),
                       to = compiler.place(operation.output), size = source.dims[axis], apart = source.strides[axis];
    Step& step = compiler.push(operation, "loop");
    step.run = [=, reads = offsets_of(target.dims, around), places = offsets_of(target.dims, indices.strides),
                writes = offsets_of(target.dims, target.strides), images = setting.images,
                name = who(operation)](const Frame& frame, std::int64_t, std::int64_t, Word*) {
        for (std::size_t i = 0; i < reads.size(); ++i) {
            const float *read = frame.floats(from + reads[i]), *index = frame.floats(at + places[i]);
            float* written = frame.floats(to + writes[i]);
            for (int image = 0; image < frame.valid; ++image)
                written[image] = read[index_of(index[image], size, name) * apart + image];
            std::fill(written + frame.valid, written + images, 0.0f);
        }
    };
}

std::optional<Kind> read_top(const Node& node) {
    if (node.op != "topk") return {};
    return kind::Top{axes_of(node, "axis")[0], integer_of(node, "largest") != 0};
}

// The places of the numbers that come first along a line; a NaN is larger than all.
class Ranking {
   public:
    explicit Ranking(bool largest) : largest_(largest) {}

    template <typename Put>
    void run(const float* line, const Offsets& steps, std::size_t count, const Put& put) {
        if (count == 1) {
            std::size_t best = 0;
            for (std::size_t i = 1; i < steps.size(); ++i)
                if (before(line[steps[i]], line[steps[best]])) best = i;
            return put(0, best);
        }
        ranked_.clear();
        for (std::size_t i = 0; i < steps.size(); ++i) ranked_.emplace_back(line[steps[i]], i);
        std::partial_sort(ranked_.begin(), ranked_.begin() + static_cast<std::ptrdiff_t>(count), ranked_.end(),
                          [&](const auto& a, const auto& b) {
                              if (before(a.first, b.first)) return true;
                              return !before(b.first, a.first) && a.second < b.second;
                          });
        for (std::size_t i = 0; i < count; ++i) put(i, ranked_[i].second);
    }

   private:
    bool before(float a, float b) const {
        if (a != a || b != b) return largest_ ? a != a && b == b : a == a && b != b;
        return largest_ ? a > b : a < b;
    }

    bool largest_;
    std::vector<std::pair<float, std::size_t>> ranked_;
};

void compile_top(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const auto [axis, largest] = std::get<kind::Top>(operation.kind);
    const Lines source = lines_of(setting.input(operation), axis, axis + 1),
                target = lines_of(setting.output(operation), axis, axis + 1);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    Step& step = compiler.push(operation, "loop");
    step.items = static_cast<std::int64_t>(source.starts.size());
    step.work = static_cast<double>(source.starts.size() * source.steps.size());
    step.run = [=, largest = largest, images = setting.images](const Frame& frame, std::int64_t begin, std::int64_t end,
                                                               Word*) {
        Ranking ranking(largest);
        for (std::int64_t item = begin; item < end; ++item)
            for (int image = 0; image < images; ++image) {
                float* written = frame.floats(to + target.starts[item]) + image;
                ranking.run(
                    frame.floats(from + source.starts[item]) + image, source.steps, target.steps.size(),
                    [&](std::size_t i, std::size_t place) { written[target.steps[i]] = static_cast<float>(place); });
            }
    };
}

std::optional<Kind> read_select(const Node& node) {
    if (node.op != "where") return {};
    return kind::Select{};
}

void compile_select(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Storage& target = setting.output(operation);
    const auto operand = [&](std::size_t i) {
        return Operand{compiler.place(operation.inputs[i]), broadcast(setting.input(operation, i), target.dims)};
    };
    Step& step = compiler.push(operation, "loop");
    step.run = [truth = operand(0), left = operand(1), right = operand(2),
                made = Operand{compiler.place(operation.output), target.strides}, dims = target.dims,
                images = setting.images](const Frame& frame, std::int64_t, std::int64_t, Word*) {
        choose(dims, truth, left, right, made, frame.floats(0), images);
    };
}

}  // namespace

const Lowering lowerings::take = {.read = read_take, .cycles = streaming, .compile = compile_take};
const Lowering lowerings::embedding = {.read = read_embedding, .cycles = streaming, .compile = compile_embedding};
const Lowering lowerings::gather = {.read = read_gather, .cycles = streaming, .compile = compile_gather};
const Lowering lowerings::top = {.read = read_top, .cycles = streaming, .compile = compile_top};
const Lowering lowerings::select = {.read = read_select, .cycles = streaming, .compile = compile_select};

}  // namespace secateur
