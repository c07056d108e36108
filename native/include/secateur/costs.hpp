// The constants of the cost model that chooses kernels and layouts: built in, or measured on this machine.
#pragma once

#include <array>
#include <vector>

namespace secateur {

struct Kernels;

// Of one product, of floats or of bytes; in units of its vector multiply-add from registers, where not said otherwise.
struct Costs {
    double load = 1.1;       // a multiply-add of a non-zero whose input is in L1
    double nonzero = 0.15;   // per non-zero, beside its multiply-adds
    double sums = 2.9;       // per vector of accumulators, to load and store it between blocks
    double finish = 3.2;     // per vector of accumulators, to make of it what is stored
    double pixels = 2.4;     // per vector that packing copies (interleaved)
    double rows = 1.0;       // packing of shifted rows (planar), as a multiple of what is built in
    double transform = 5.2;  // per vector of a frequency that Winograd's transform writes or reads
    // How much longer a multiply-add takes whose input comes from a packed block of so many bytes.
    std::array<double, 6> distance = {1.0, 1.03, 1.16, 1.4, 1.6, 1.8};

    static constexpr std::array<double, 6> kBytes = {28e3, 40e3, 64e3, 128e3, 256e3, 520e3};
};

struct CostModel {
    Costs floats, bytes;

    std::vector<double> values() const;
    // Throws std::invalid_argument for another number of values.
    static CostModel of(const std::vector<double>& values);
};

// Those built in for an instruction set.
CostModel built_in_costs(const Kernels& kernels);

// Some ten milliseconds of timing. Every constant stays within a factor of four of the built-in one.
CostModel measure_costs(const Kernels& kernels);

// Multiply-adds a second of the fastest dense loop, its inputs in L1: what a layer's rate is compared with. Of numbers, not
// of words: of eight bits four a word.
double peak_rate(const Kernels& kernels, bool bytes);

}  // namespace secateur
