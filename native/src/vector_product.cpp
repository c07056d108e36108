#include "vector_product.hpp"

#include <algorithm>

namespace secateur {
namespace {

// The non-zeros of a slice of rows, block by block of columns.
struct Slices {
    std::vector<Word> weights;
    std::vector<std::uint8_t> indices;
    std::vector<std::uint16_t> counts;
    std::vector<std::size_t> begin;  // step at which each slice begins
    std::int64_t nonzeros = 0;
    bool wide = false;
};

// narrow: words that are wide are given as two.
Slices slice(const VectorProblem& problem, int lanes, bool narrow) {
    const auto& [rows, columns, weight, reach, gather, bias, multipliers, bytes] = problem;
    Slices slices;
    std::vector<std::vector<std::pair<std::uint8_t, Word>>> taken(static_cast<std::size_t>(lanes));
    std::vector<VectorProblem::Reach> reached(taken.size());
    for (std::int64_t first = 0; first < rows; first += lanes) {
        for (int lane = 0; lane < lanes; ++lane)
            reached[lane] = first + lane < rows ? reach(first + lane) : VectorProblem::Reach{0, 0};
        slices.begin.push_back(slices.weights.size() / lanes);
        for (std::int64_t block = 0; block < columns; block += kTable) {
            std::size_t steps = 0;
            for (int lane = 0; lane < lanes; ++lane) {
                taken[lane].clear();
                const auto [low, high] = reached[lane];
                for (std::int64_t c = std::max(block, low); c < std::min(high, block + kTable); ++c) {
                    const Word value = weight(first + lane, c);
                    const auto add = [&](Word word) {
                        taken[lane].emplace_back(static_cast<std::uint8_t>(c - block), word);
                    };
                    if (value.bits == 0) continue;
                    ++slices.nonzeros;
                    if (narrow && is_wide(value)) slices.wide = true, add(even_half(value)), add(odd_half(value));
                    else add(value);
                }
                steps = std::max(steps, taken[lane].size());
            }
            slices.counts.push_back(static_cast<std::uint16_t>(steps));
            for (std::size_t step = 0; step < steps; ++step)
                for (int lane = 0; lane < lanes; ++lane) {
                    const bool some = step < taken[lane].size();
                    slices.indices.push_back(some ? taken[lane][step].first : 0);
                    slices.weights.push_back(some ? taken[lane][step].second : Word{0});
                }
        }
    }
    slices.begin.push_back(slices.weights.size() / lanes);
    return slices;
}

}  // namespace

VectorProduct::VectorProduct(VectorProblem problem, Clamp clamp, const Kernels& kernels, int parts)
    : kernels_(kernels), rows_(problem.rows), columns_(problem.columns), clamp_(clamp), bytes_(problem.bytes) {
    const int lanes = kernels.lanes;
    const std::int64_t rows = rows_, columns = columns_;
    const std::int64_t slices = (rows + lanes - 1) / lanes, blocks = (columns + kTable - 1) / kTable;
    Slices sliced = slice(problem, lanes, bytes_ && kernels.bytes->narrow);
    const Cycles& cycles = bytes_ ? kernels.bytes->cycles : kernels.cycles;
    nonzeros_ = sliced.nonzeros;
    const double sparse =
        static_cast<double>(sliced.begin.back()) * cycles.sparse_step + static_cast<double>(slices * blocks) * 4;
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
                          static_cast<std::size_t>(first * blocks)});
    }
}

void VectorProduct::run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual, Word* output,
                        Word* scratch) const {
    if (!gather_.empty()) {
        const auto take = [input](std::int32_t place) { return input[place]; };
        std::transform(gather_.begin(), gather_.end(), scratch, take);
        input = scratch;
    }
    const int lanes = kernels_.lanes;
    for (std::int64_t item = begin; item < end; ++item) {
        const Part& part = parts_[item];
        const int first = part.slice * lanes, rows = static_cast<int>(rows_) - first;
        const Word* weights = weights_.data() + part.step * lanes;
        const int at = bytes_ && !bytes_->end.floats ? first / 4 : first;  // words
        const Word* added = residual == nullptr ? nullptr : residual + at;
        Requantisation end{};
        if (bytes_) end = bytes_->end, end.multipliers = multipliers_.data() + first;
        if (sparse_)
            (bytes_ ? kernels_.bytes->sparse_vector : kernels_.sparse_vector)(
                {input, weights, indices_.data() + part.step * lanes, counts_.data() + part.count, part.slices,
                 static_cast<int>((columns_ + kTable - 1) / kTable), bias_.get() + first, added, output + at, rows,
                 clamp_.low, clamp_.high, end});
        else
            (bytes_ ? kernels_.bytes->dense_vector : kernels_.dense_vector)(
                {input, weights, part.slices, static_cast<int>(columns_), bias_.get() + first, added, output + at, rows,
                 clamp_.low, clamp_.high, end});
    }
}

std::size_t VectorProduct::bytes() const {
    return steps_ * kernels_.lanes * (sparse_ ? 5 : 4) + counts_.size() * sizeof(std::uint16_t);
}

std::string VectorProduct::describe() const {
    return std::string(bytes_ ? "int8 " : "") + (sparse_ ? "sparse vector" : "dense vector");
}

}  // namespace secateur
