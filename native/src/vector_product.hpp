// A matrix times a few vectors, the matrix sparse or dense: fully connected layers of single images.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fusion.hpp"
#include "kernels.hpp"
#include "memory.hpp"
#include "shelf.hpp"

namespace secateur {

// rows × columns words: weight(row, column) is zero outside the columns [first, second) of reach(row). gather: where each
// column's input lies; empty: side by side. Of eight bits multipliers are per row, and four rows are bytes of one word.
struct VectorProblem {
    using Reach = std::pair<std::int64_t, std::int64_t>;
    std::int64_t rows, columns;
    std::function<Word(std::int64_t, std::int64_t)> weight;
    std::function<Reach(std::int64_t)> reach;
    std::vector<std::int32_t> gather;
    std::vector<Word> bias;
    std::vector<float> multipliers{};
    std::shared_ptr<const ByteWeights> bytes{};  // null: floats
};

class VectorProduct {
   public:
    VectorProduct(VectorProblem problem, Clamp clamp, const Kernels& kernels, int parts);

    int items() const { return static_cast<int>(parts_.size()); }
    std::size_t scratch_words() const { return gather_.empty() ? 0 : kVectorsTogether * gathered_words(); }
    void shelve(Shelf& shelf) { shelf.add(weights_), shelf.add(indices_), shelf.add(counts_); }
    // Of each vector, whose sums are the same whatever is beside it. kOverread words behind inputs must be readable.
    void run(std::int64_t begin, std::int64_t end, std::span<const Multiplied> vectors, Word* scratch) const;

    std::int64_t nonzeros() const { return nonzeros_; }
    std::size_t bytes() const;
    std::string describe() const;
    double cycles() const { return cycles_; }

   private:
    struct Part {
        int slice, slices;
        std::size_t step, count;  // where its steps and its counts begin
    };

    std::size_t gathered_words() const {
        return static_cast<std::size_t>(round_up(static_cast<std::int64_t>(gather_.size()) + kOverread, 16));
    }
    void run_part(const Part& part, std::span<const Multiplied> vectors) const;

    const Kernels& kernels_;
    std::int64_t rows_, columns_, nonzeros_ = 0;
    bool sparse_ = true;
    std::vector<std::int32_t> gather_;
    Shelved<Word> weights_;
    Words bias_;
    std::size_t steps_ = 0;
    Shelved<std::uint8_t> indices_;
    Shelved<std::uint16_t> counts_;
    std::vector<Part> parts_;
    Clamp clamp_;
    std::vector<float> multipliers_;
    std::shared_ptr<const ByteWeights> bytes_;
    double cycles_ = 0;
};

}  // namespace secateur
