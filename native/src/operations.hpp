// Operations whose time does not matter much: they copy, average and normalise through tables of offsets made when the
// plan is made. Every offset is that of `images` words side by side.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "kernels.hpp"
#include "kinds.hpp"
#include "storage.hpp"

namespace secateur {

using Offsets = std::vector<std::int64_t>;

Offsets offsets_of(const Shape& dims, const std::vector<std::int64_t>& strides);  // row-major
std::vector<std::int64_t> dense_strides(const Shape& dims, int images);
// Strides of `source` seen as `dims`, by NumPy's rules of broadcasting.
std::vector<std::int64_t> broadcast(const Storage& source, const Shape& dims);

// What is copied from where to where: `length` words for each position in dims, axes that lie side by side joined.
struct Copy {
    Shape dims;
    std::vector<std::int64_t> source_strides, target_strides;
    std::int64_t length, target;  // target: where the first position goes

    // Two axes that change places as those of a matrix do: of rows, which lie side by side in the target, and of columns,
    // which do in the source. Strides are between rows of the source, between columns of the target, and of the other axes.
    struct Turn {
        Shape dims;
        std::vector<std::int64_t> source_strides, target_strides;
        std::int64_t rows, columns, source, target;
    };
    std::optional<Turn> turn;

    Copy(const Shape& dims, const std::vector<std::int64_t>& source_strides,
         const std::vector<std::int64_t>& target_strides, int images, std::int64_t target = 0);
    void run(const Word* from, Word* to, const Kernels& kernels) const;
};

// Between a folded value and one that is not, whose rows are contiguous.
class Conversion {
   public:
    Conversion(const Storage& source, const Storage& target) : source_(source), target_(target) {}
    // Channels [begin, end).
    void run(std::int64_t begin, std::int64_t end, const Word* from, Word* to) const;

   private:
    Storage source_, target_;
};

struct Segment {
    std::int64_t source, target, length;
};

// Between two values whose positions are as many in other dims.
std::vector<Segment> segments_between(const Storage& source, const Storage& target, int images);
void copy_segments(const std::vector<Segment>& segments, const Word* source, Word* target);

// An operand: where it lies in the arena, and its strides as the target's dims.
struct Operand {
    std::int64_t place;
    std::vector<std::int64_t> strides;
};

// The same with the axes in the order in which the target lies.
void order_axes(Shape& dims, Operand& left, Operand& right, Operand& target);
// Along the last axis every operand is one element, or its elements lie side by side as the target's do.
void combine(void (*run)(const BinaryRun&), Clamp clamp, const Shape& dims, const Operand& left, const Operand& right,
             const Operand& target, float* arena, int images);

// As `combine`, of three operands: where the first is not 0 the second, else the third.
void choose(const Shape& dims, const Operand& truth, const Operand& left, const Operand& right, const Operand& target,
            float* arena, int images);

// What is averaged into each target: the elements of a form, counted from a source.
struct Windows {
    struct Window {
        std::int64_t target, source;
        std::size_t form;
    };
    std::vector<Window> windows;
    std::vector<Offsets> forms;
};

Windows axis_windows(const Storage& source, const Storage& target, const std::vector<std::int64_t>& axes);
void reduce_windows(kind::Reduction reduction, const Windows& windows, std::int64_t begin, std::int64_t end,
                    const float* source, float* target, int images);

// Those of an adaptive pooling, by their first and last rows and columns: there may be many more outputs than inputs.
struct AdaptiveWindows {
    Storage source, target;
    std::vector<std::pair<std::int64_t, std::int64_t>> bounds[2];  // of the window of every row, of every column

    AdaptiveWindows(const Storage& source, const Storage& target);
};

// Outputs [begin, end), counted pixel by pixel, the channels of each.
void average_adaptive(const AdaptiveWindows& windows, std::int64_t begin, std::int64_t end, const float* from,
                      float* to, int images);

// The axes [first, last) of a value, for every position in its other axes.
struct Lines {
    Offsets starts, steps;
};

Lines lines_of(const Storage& storage, std::int64_t first, std::int64_t last);
// One line's sums, of what stands up to there.
void sum_along(const Lines& from, const Lines& to, std::size_t line, const float* source, float* target, int images);
// Lines [begin, end), or as many pairs of a line and a vector of images; scratch of softmax_words(lines, kernels).
std::size_t softmax_words(const Lines& lines, const Kernels& kernels);
void softmax_lines(const Lines& lines, const Kernels& kernels, std::int64_t begin, std::int64_t end,
                   const float* source, float* target, int images, float* scratch);
void normalise_lines(const Lines& lines, const std::vector<float>& weight, const std::vector<float>& bias,
                     double epsilon, const float* source, float* target, int images);

}  // namespace secateur
