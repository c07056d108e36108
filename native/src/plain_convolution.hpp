// Convolutions that no tile can hold: kernels of tens of thousands of taps, wide dilations of large images, no inputs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "convolution.hpp"
#include "shelf.hpp"

namespace secateur {

// One non-zero at a time over the whole plane of an output, where it lies.
class PlainConvolution {
   public:
    PlainConvolution(const Filter& filter, Clamp clamp, const ConvolutionShape& shape, const Planes& input,
                     const Planes& output);

    std::int64_t items() const { return shape_.outputs; }
    std::size_t scratch_words() const { return 0; }
    void shelve(Shelf& shelf) { shelf.add(taps_); }
    void run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual, Word* output,
             Word* scratch) const;

    double cycles() const { return cycles(nonzeros(), output_); }
    // Of a layer of so many non-zeros.
    static double cycles(std::int64_t nonzeros, const Planes& output);
    std::int64_t nonzeros() const { return static_cast<std::int64_t>(taps_.size()); }
    std::size_t bytes() const { return taps_.size() * sizeof(Tap); }
    std::string describe() const { return "plain"; }

   private:
    struct Tap {
        float weight;
        std::int32_t channel, y, x;  // y, x: of the input that output (0, 0) sees; negative: padding
    };

    void add(const Tap& tap, const float* input, float* output) const;
    void finish(const float* residual, float* output) const;

    ConvolutionShape shape_;
    Planes input_, output_;
    Shelved<Tap> taps_;
    std::vector<std::int64_t> first_;  // of every output; one more
    std::vector<float> bias_;
    Clamp clamp_;
};

}  // namespace secateur
