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
};

Slices slice(std::int64_t rows, std::int64_t columns, const std::function<float(std::int64_t, std::int64_t)>& weight,
             const std::function<VectorProduct::Reach(std::int64_t)>& reach, int lanes) {
    Slices slices;
    std::vector<std::vector<std::pair<std::uint8_t, float>>> taken(static_cast<std::size_t>(lanes));
    std::vector<VectorProduct::Reach> reached(taken.size());
    for (std::int64_t first = 0; first < rows; first += lanes) {
        for (int lane = 0; lane < lanes; ++lane)
            reached[lane] = first + lane < rows ? reach(first + lane) : VectorProduct::Reach{0, 0};
        slices.begin.push_back(slices.weights.size() / lanes);
        for (std::int64_t block = 0; block < columns; block += kTable) {
            std::size_t steps = 0;
            for (int lane = 0; lane < lanes; ++lane) {
                taken[lane].clear();
                const auto [low, high] = reached[lane];
                for (std::int64_t c = std::max(block, low); c < std::min(high, block + kTable); ++c) {
                    const float value = weight(first + lane, c);
                    if (value != 0.0f) taken[lane].emplace_back(static_cast<std::uint8_t>(c - block), value);
                }
                slices.nonzeros += static_cast<std::int64_t>(taken[lane].size());
                steps = std::max(steps, taken[lane].size());
            }
            slices.counts.push_back(static_cast<std::uint16_t>(steps));
            for (std::size_t step = 0; step < steps; ++step)
                for (int lane = 0; lane < lanes; ++lane) {
                    const bool some = step < taken[lane].size();
                    slices.indices.push_back(some ? taken[lane][step].first : 0);
                    slices.weights.push_back(as_word(some ? taken[lane][step].second : 0.0f));
                }
        }
    }
    slices.begin.push_back(slices.weights.size() / lanes);
    return slices;
}

}  // namespace

VectorProduct::VectorProduct(std::int64_t rows, std::int64_t columns,
                             const std::function<float(std::int64_t, std::int64_t)>& weight,
                             const std::function<Reach(std::int64_t)>& reach, std::vector<std::int32_t> gather,
                             const std::vector<float>& bias, Clamp clamp, const Kernels& kernels, int parts)
    : kernels_(kernels), rows_(rows), columns_(columns), gather_(std::move(gather)), clamp_(clamp) {
    const int lanes = kernels.lanes;
    const std::int64_t slices = (rows + lanes - 1) / lanes, blocks = (columns + kTable - 1) / kTable;
    Slices sliced = slice(rows, columns, weight, reach, lanes);
    nonzeros_ = sliced.nonzeros;
    const double sparse = static_cast<double>(sliced.begin.back()) * kernels.cycles.sparse_step +
                          static_cast<double>(slices * blocks) * 4;
    const double dense = static_cast<double>(slices * columns) * kernels.cycles.dense_step;
    sparse_ = sparse < dense;
    cycles_ = std::min(sparse, dense);
    bias_ = make_words(static_cast<std::size_t>(slices * lanes));
    std::copy(bias.begin(), bias.end(), as_floats(bias_.get()));
    if (sparse_) {
        steps_ = sliced.begin.back();
        weights_.made() = std::move(sliced.weights), indices_.made() = std::move(sliced.indices),
        counts_.made() = std::move(sliced.counts);
    } else {
        steps_ = static_cast<std::size_t>(slices * columns);
        std::vector<Word>& weights = weights_.made();
        weights.resize(steps_ * lanes);
        for (std::int64_t r = 0; r < rows; ++r)
            for (auto [c, end] = reach(r); c < end; ++c)
                weights[((r / lanes) * columns + c) * lanes + r % lanes] = as_word(weight(r, c));
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
        const Word* added = residual == nullptr ? nullptr : residual + first;
        if (sparse_)
            kernels_.sparse_vector({input, weights, indices_.data() + part.step * lanes, counts_.data() + part.count,
                                    part.slices, static_cast<int>((columns_ + kTable - 1) / kTable),
                                    bias_.get() + first, added, output + first, rows, clamp_.low, clamp_.high});
        else
            kernels_.dense_vector({input, weights, part.slices, static_cast<int>(columns_), bias_.get() + first, added,
                                   output + first, rows, clamp_.low, clamp_.high});
    }
}

std::size_t VectorProduct::bytes() const {
    return steps_ * kernels_.lanes * (sparse_ ? 5 : 4) + counts_.size() * sizeof(std::uint16_t);
}

std::string VectorProduct::describe() const { return sparse_ ? "sparse vector" : "dense vector"; }

}  // namespace secateur
