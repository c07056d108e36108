// Layers with weights: how each is computed, which is decided here once for its predicted cost and for its program.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "compiler.hpp"
#include "convolution.hpp"
#include "operations.hpp"
#include "setting.hpp"
#include "site.hpp"
#include "vector_product.hpp"
#include "winograd.hpp"

namespace secateur {

struct AsVector {};  // a matrix times a vector
struct AsPlain {};   // one non-zero at a time

struct LayerChoice {
    std::variant<AsVector, AsPlain, Choice, WinogradChoice> way;
    double cycles;  // predicted
};

// A matrix of `rows` times the layer's outputs, its weights used so often in each column.
LayerChoice choose_vector(const Filter& filter, std::int64_t repeats, const Kernels& kernels);
LayerChoice choose_plain(const Filter& filter, const Site& site);
// The fastest of tiles and Winograd's transform, or what does without them.
LayerChoice choose_tiles(const Filter& filter, const Site& site, const Kernels& kernels, const CostModel& costs);

// nonzeros: words that are multiplied by at each of so many places.
void report_weights(StepReport& report, const Filter& filter, const std::string& name, std::int64_t places,
                    std::int64_t nonzeros, std::size_t bytes);

// Any of these but AsVector. name: of the layer, for plan().
void add_layer(Compiler& compiler, const Operation& operation, const Filter& filter, const Site& site,
               const LayerChoice& choice, const std::string& name);

// A fully connected layer's weights times one vector.
VectorProblem matrix_problem(const Filter& filter, const Kernels& kernels);

// sources, targets: of every vector, from the places of the values.
void add_vector(Compiler& compiler, const Operation& operation, const Filter& filter, VectorProblem problem,
                const Offsets& sources, const Offsets& targets, const std::string& name);

}  // namespace secateur
