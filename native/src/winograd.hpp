// A dense or half-dense 3×3 convolution computed by Winograd's transform (kernels.hpp), for the layouts where a vector
// holds one pixel: of images side by side, or of the parts of a folded one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "convolution.hpp"
#include "kernels.hpp"
#include "kinds.hpp"
#include "secateur/costs.hpp"
#include "shelf.hpp"

namespace secateur {

struct WinogradChoice {
    const WinogradTransform* transform = nullptr;
    const WinogradProduct* product = nullptr;
    double cycles = 0;  // predicted, for a whole layer
};

class Winograd {
   public:
    // Arguments as of Convolution; choice: one of choices().
    Winograd(const Filter& filter, Clamp clamp, const ConvolutionShape& shape, const Planes& input,
             const Planes& output, const Kernels& kernels, const WinogradChoice& choice, const Border& border = {});

    // All that are possible, the one that should be fastest first; none for other convolutions or planar values.
    static std::vector<WinogradChoice> choices(const ConvolutionShape& shape, const Planes& input, const Planes& output,
                                               const Kernels& kernels, const Costs& costs);

    // parts: into how many parts the outputs are divided where there are few tiles.
    void divide(int parts);
    void shelve(Shelf& shelf) { shelf.add(weights_); }
    std::int64_t items() const { return batches_ * parts_; }
    std::size_t scratch_words() const;
    // As Convolution::run.
    void run(std::int64_t begin, std::int64_t end, const Word* input, const Word* residual, Word* output,
             Word* scratch) const;

    double cycles() const { return choice_.cycles; }     // predicted
    std::int64_t nonzeros() const { return nonzeros_; }  // of the layer's own weights
    std::size_t bytes() const { return weights_.size() * sizeof(float); }
    std::string describe() const;

   private:
    void transform_weights(const Filter& filter);
    void find_moves(const Border& border);
    void transform_inputs(std::int64_t batch, const float* input, float* target) const;
    void transform_outputs(std::int64_t batch, std::int64_t first, std::int64_t end, const float* products,
                           const float* residual, float* output) const;

    const Kernels& kernels_;
    const WinogradChoice choice_;
    const Planes input_, output_;
    const std::int64_t top_, left_, channels_, outputs_;
    std::int64_t tiles_x_, vectors_, units_;  // vectors of images; units: a tile of one vector of images each
    std::int64_t batches_, groups_;           // of units, of outputs: as many as one product covers
    std::int64_t together_;                   // groups whose products are kept at a time
    int parts_ = 1;
    std::int64_t input_frequency_, product_frequency_;  // floats from one frequency to the next
    Shelved<float> weights_;                            // [frequency][group][channel][outputs of a group]
    std::vector<float> bias_;
    Clamp clamp_;
    std::vector<std::vector<BorderMove>> moves_;  // per tile, places from its first pixel
    std::vector<std::int32_t> lanes_;
    std::int64_t nonzeros_ = 0;
};

}  // namespace secateur
