// How a batch is run, for those who ask.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "secateur/graph.hpp"

namespace secateur {

// Part of a batch: `count` blocks of `block` images, the last of which may be fewer in truth. Of every block the
// operations before `cut` run image by image, while planes are large and one image fits into a near cache; the others
// with the images of the block side by side.
struct Part {
    int block;
    int cut;
    std::int64_t count;
};

// What one step does.
struct StepReport {
    std::string name, operations, kernel;
    std::string layer;  // of weights: "3×3 convolution", "fully connected"; else empty
    Shape shape;
    double density = 1, predicted_cycles = 0;
    std::int64_t multiply_adds = 0, nonzero_multiply_adds = 0;  // per image
    std::size_t bytes = 0;                                      // of prepared weights
};

struct TimedStep {
    StepReport report;
    int images;      // of one run of the step
    int threads;     // that share it; where there are more, they run it for other images at the same time
    double seconds;  // of one run; negative: not measured
};

}  // namespace secateur
