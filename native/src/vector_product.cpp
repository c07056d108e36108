#include "vector_product.hpp"

#include <algorithm>

namespace secateur {
namespace {

using Steps = std::vector<std::pair<std::int64_t, Word>>;  // of a row: columns, and what they are multiplied by

// The non-zeros of slices of rows, window by window of columns.
struct Slices {
    std::vector<Word> weights;
    std::vector<std::uint8_t> indices;
    std::vector<std::uint16_t> counts;
    std::vector<std::size_t> begin;  // step at which each slice begins
    std::int64_t nonzeros = 0;
    bool wide = false;

    // Whatever no later window sees; rows with fewer of that go on with what the next one sees too.
    void add(const std::vector<Steps>& lanes, std::int64_t windows) {
        std::vector<std::size_t> next(lanes.size(), 0);
        for (std::int64_t window = 0; window < windows; ++window) {
            const std::int64_t first = window * kWindowStep,
                               due = window == windows - 1 ? first + kTable : first + kWindowStep;
            std::size_t steps = 0;
            for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
                std::size_t left = next[lane];
                while (left < lanes[lane].size() && lanes[lane][left].first < due) ++left;
                steps = std::max(steps, left - next[lane]);
            }
            counts.push_back(static_cast<std::uint16_t>(steps));
            for (std::size_t step = 0; step < steps; ++step)
                for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
                    const bool some = next[lane] < lanes[lane].size() && lanes[lane][next[lane]].first < first + kTable;
                    const auto [column, weight] = some ? lanes[lane][next[lane]++] : Steps::value_type{first, {0}};
                    indices.push_back(static_cast<std::uint8_t>(column - first)), weights.push_back(weight);
                }
        }
    }
};

std::int64_t windows_of(std::int64_t columns) {
    return std::max<std::int64_t>(1, (columns + kWindowStep - 1) / kWindowStep - 1);
}

// narrow: words that are wide are given as two.
Slices slice(const VectorProblem& problem, int lanes, bool narrow) {
    Slices slices;
    std::vector<Steps> taken(static_cast<std::size_t>(lanes));
    for (std::int64_t first = 0; first < problem.rows; first += lanes) {
        slices.begin.push_back(slices.weights.size() / lanes);
        for (int lane = 0; lane < lanes; ++lane) {
            Steps& steps = taken[static_cast<std::size_t>(lane)];
            steps.clear();
            if (first + lane >= problem.rows) continue;
            for (auto [column, end] = problem.reach(first + lane); column < end; ++column) {
                const Word value = problem.weight(first + lane, column);
                if (value.bits == 0) continue;
                ++slices.nonzeros;
                const bool both = narrow && is_wide(value);
                slices.wide |= both;
                steps.emplace_back(column, both ? even_half(value) : value);
                if (both) steps.emplace_back(column, odd_half(value));
            }
        }
        slices.add(taken, windows_of(problem.columns));
    }
    slices.begin.push_back(slices.weights.size() / lanes);
    return slices;
}

}  // namespace

VectorProduct::VectorProduct(VectorProblem problem, Clamp clamp, const Kernels& kernels, int parts)
    : kernels_(kernels), rows_(problem.rows), columns_(problem.columns), clamp_(clamp), bytes_(problem.bytes) {
    const int lanes = kernels.lanes;
    const std::int64_t rows = rows_, columns = columns_;
    const std::int64_t slices = (rows + lanes - 1) / lanes, windows = windows_of(columns);
    Slices sliced = slice(problem, lanes, bytes_ && kernels.bytes->narrow);
    const Cycles& cycles = bytes_ ? kernels.bytes->cycles : kernels.cycles;
    nonzeros_ = sliced.nonzeros;
    const double sparse =
        static_cast<double>(sliced.begin.back()) * cycles.sparse_step + static_cast<double>(slices * windows) * 2;
    const double dense = static_cast<double>(slices * columns) * cycles.dense_step;
    sparse_ = sparse < dense || sliced.wide;
    cycles_ = sparse_ ? sparse : dense;
    bias_ = make_words(static_cast<std::size_t>(slices * lanes));
    std::copy(problem.bias.begin(), problem.bias.end(), bias_.get());
    gather_ = std::move(problem.gather);
    multipliers_ = std::move(problem.multipliers);
    if (bytes_) multipliers_.resize(static_cast<std::size_t>(slices * lanes) + kOverread, 0.0f);
    if (sparse_) {
        steps_ = sliced.begin.back();
        weights_.made() = std::move(sliced.weights), indices_.made() = std::move(sliced.indices),
        counts_.made() = std::move(sliced.counts);
    } else {
        steps_ = static_cast<std::size_t>(slices * columns);
        std::vector<Word>& weights = weights_.made();
        weights.resize(steps_ * lanes);
        for (std::int64_t r = 0; r < rows; ++r)
            for (auto [c, end] = problem.reach(r); c < end; ++c)
                weights[((r / lanes) * columns + c) * lanes + r % lanes] = problem.weight(r, c);
    }
    indices_.made().resize(indices_.size() + kOverread);
    parts = static_cast<int>(std::clamp<std::int64_t>(parts, 1, std::max<std::int64_t>(1, slices)));
    for (int part = 0; part < parts; ++part) {
        const std::int64_t first = slices * part / parts, end = slices * (part + 1) / parts;
        parts_.push_back({static_cast<int>(first), static_cast<int>(end - first),
                          sparse_ ? sliced.begin[first] : static_cast<std::size_t>(first * columns),
                          static_cast<std::size_t>(first * windows)});
    }
}

void VectorProduct::run_part(const Part& part, std::span<const Multiplied> vectors) const {
    const int lanes = kernels_.lanes, first = part.slice * lanes, rows = static_cast<int>(rows_) - first;
    const int at = bytes_ && !bytes_->end.floats ? first / 4 : first;  // words
    Multiplied placed[kVectorsTogether];
    for (std::size_t i = 0; i < vectors.size(); ++i) {
        const auto& [input, residual, output] = vectors[i];
        placed[i] = {input, residual == nullptr ? nullptr : residual + at, output + at};
    }
    const int count = static_cast<int>(vectors.size());
    const Word* weights = weights_.data() + part.step * lanes;
    Requantisation end{};
    if (bytes_) end = bytes_->end, end.multipliers = multipliers_.data() + first;
    if (sparse_)
        (bytes_ ? kernels_.bytes->sparse_vector : kernels_.sparse_vector)(
            {placed, count, weights, indices_.data() + part.step * lanes, counts_.data() + part.count, part.slices,
             static_cast<int>(windows_of(columns_)), bias_.get() + first, rows, clamp_.low, clamp_.high, end});
    else
        (bytes_ ? kernels_.bytes->dense_vector
                : kernels_.dense_vector)({placed, count, weights, part.slices, static_cast<int>(columns_),
                                          bias_.get() + first, rows, clamp_.low, clamp_.high, end});
}

void VectorProduct::run(std::int64_t begin, std::int64_t end, std::span<const Multiplied> vectors,
                        Word* scratch) const {
    for (; vectors.size() > kVectorsTogether; vectors = vectors.subspan(kVectorsTogether))
        run(begin, end, vectors.first(kVectorsTogether), scratch);
    Multiplied given[kVectorsTogether];
    std::copy(vectors.begin(), vectors.end(), given);
    if (!gather_.empty())
        for (std::size_t i = 0; i < vectors.size(); ++i, scratch += gathered_words()) {
            const auto take = [input = given[i].input](std::int32_t place) { return input[place]; };
            std::transform(gather_.begin(), gather_.end(), scratch, take);
            given[i].input = scratch;
        }
    for (std::int64_t item = begin; item < end; ++item) run_part(parts_[item], {given, vectors.size()});
}

std::size_t VectorProduct::bytes() const {
    return steps_ * kernels_.lanes * (sparse_ ? 5 : 4) + counts_.size() * sizeof(std::uint16_t);
}

std::string VectorProduct::describe() const {
    return std::string(bytes_ ? "int8 " : "") + (sparse_ ? "sparse vector" : "dense vector");
}

}  // namespace secateur
