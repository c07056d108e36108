// Turns the operations of a network into the steps of a program.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "arena.hpp"
#include "folding.hpp"
#include "operations.hpp"
#include "convolution.hpp"
#include "program.hpp"
#include "shelf.hpp"
#include "vector_product.hpp"
#include "site.hpp"
#include "storage.hpp"

namespace secateur {

class Compiler {
   public:
    // folded: the network with its conversions between layouts; a program of several images has none.
    Compiler(const FoldedNetwork& folded, int images, const Kernels& kernels, const Costs& costs, int threads, Program& program)
        : folded_(folded), network_(folded.network), images_(images), kernels_(kernels), costs_(costs), threads_(threads), program_(program) {}

    void compile();

   private:
    void place_values();
    void touch(int value, int step);
    bool aliases(const Operation& operation) const {
        return dense(storages_[operation.inputs[0]], images_) && dense(storages_[operation.output], images_);
    }
    std::int64_t place(int value) const { return buffers_[buffer_of_[value]].place; }
    void add_constant(const Operation& operation);
    Step& push(const std::string& name, const std::string& operations, const Shape& shape, const std::string& kernel);
    Step& push(const Operation& operation, const std::string& kernel);
    void need_scratch(std::size_t floats) { program_.scratch_floats_ = std::max(program_.scratch_floats_, floats); }
    void add_input(int index);
    void add_output(int index);
    void add(const Operation& operation);
    Planes planes(int value) const {
        const Storage& s = storages_[value];
        return {s.dims[0], s.dims[1], s.dims[2], s.strides[0], s.strides[1], s.strides[2], images_};
    }
    void report_weights(StepReport& report, const Operation& operation, std::int64_t places, std::int64_t nonzeros, std::size_t bytes);
    void add_convolution(const Operation& operation);
    void add_tiles(const Operation& operation, const Site& site);
    void add_plain(const Operation& operation, const Site& site);
    // make(parts): a Convolution or Winograd whose outputs are divided into so many parts.
    template <typename Make>
    void add_layer(const Operation& operation, const Site& site, const Make& make);
    // Few output pixels: a matrix of a row per output and pixel, times a vector of all the inputs that they see.
    void add_few_pixels(const Operation& operation);
    void add_vector(const Operation& operation, std::int64_t rows, std::int64_t columns, const std::function<float(std::int64_t, std::int64_t)>& weight,
                    const std::function<VectorProduct::Reach(std::int64_t)>& reach, std::vector<std::int32_t> gather, std::vector<float> bias, const Offsets& sources, const Offsets& targets);
    void add_linear(const Operation& operation);
    void add_affine(const Operation& operation);
    void add_unary(const Operation& operation);
    void add_binary(const Operation& operation);
    void add_pool(const Operation& operation);
    // A mean over windows: those of an adaptive pooling, or whole axes.
    void add_mean(const Operation& operation);
    void add_softmax(const Operation& operation);
    void add_layer_norm(const Operation& operation);
    void add_copies(const Operation& operation, std::vector<std::pair<std::int64_t, Copy>> parts);
    void add_reshape(const Operation& operation);
    void add_permute(const Operation& operation);
    void add_slice(const Operation& operation);
    void add_concat(const Operation& operation);
    void add_conversion(const Operation& operation);
    void add_border(int value);

    const FoldedNetwork& folded_;
    const FusedNetwork& network_;
    const int images_;
    const Kernels& kernels_;
    const Costs& costs_;
    const int threads_;
    Program& program_;
    std::vector<Storage> storages_;
    std::vector<int> buffer_of_;
    std::vector<Buffer> buffers_;
    std::vector<const Operation*> constants_;
    Shelf shelf_;
};

}  // namespace secateur
