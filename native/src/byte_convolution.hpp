// Quantised convolutions that no tile can hold, as plain_convolution.hpp is for floats.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "convolution.hpp"
#include "shelf.hpp"

namespace secateur {

// Pixel by pixel: all of an output's words, where they lie.
class BytePlainConvolution {
   public:
    BytePlainConvolution(const Filter& filter, const ConvolutionShape& shape, const Planes& input,
                         const Planes& output);

    std::int64_t items() const { return shape_.outputs / 4; }
    std::size_t scratch_words() const { return 0; }
    void shelve(Shelf& shelf) { shelf.add(taps_); }
    // Items are planes of words of the output.
    void run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual, Word* output,
             Word* scratch) const;

    double cycles() const { return cycles(nonzeros(), output_); }
    // Of a layer of so many words that are not zero.
    static double cycles(std::int64_t nonzeros, const Planes& output);
    std::int64_t nonzeros() const { return static_cast<std::int64_t>(taps_.size()); }
    std::size_t bytes() const { return taps_.size() * sizeof(Tap); }
    std::string describe() const { return "int8 plain"; }

   private:
    struct Tap {
        Word weight;
        std::int32_t channel, y, x;  // y, x: of the input that output (0, 0) sees; negative: padding
    };

    std::int32_t sum(std::int64_t output, std::int64_t y, std::int64_t x, int image, const Word* input) const;
    float scaled(std::int64_t output, std::int32_t sum, float residual) const;
    void store(std::int64_t output, const std::int32_t* sums, std::int64_t at, const Word* residual,
               Word* target) const;

    ConvolutionShape shape_;
    Planes input_, output_;
    Shelved<Tap> taps_;
    std::vector<std::int64_t> first_;  // of every output; one more
    std::shared_ptr<const ByteWeights> weights_;
    std::int64_t outputs_;  // that there are
};

}  // namespace secateur
