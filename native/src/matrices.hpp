// Products of matrices that lie in values, a pair for every position in the axes before them.
#pragma once

#include <cstdint>

#include "operations.hpp"
#include "secateur/plan.hpp"
#include "setting.hpp"

namespace secateur {

// Where the matrices of a value lie, seen as those of `dims`, by NumPy's rules of broadcasting. Strides are in words.
struct Matrices {
    Offsets places;
    std::int64_t rows, columns, row, column;

    Matrices(const Storage& storage, const Shape& dims);
    Matrices transposed() const;
};

// left · right, of matrices that begin there; of several images the vector that begins there of each element.
ProductRun product_of(const Matrices& left, const float* a, const Matrices& right, const float* b,
                      const Matrices& target, float* made);

// How the columns of right matrices are read one image at a time: in panels, made for this or where they lie.
class Panels {
   public:
    // rows: of what they are multiplied with.
    Panels(const Matrices& right, std::int64_t rows, const Kernels& kernels);

    std::size_t words() const { return ready_ ? 0 : static_cast<std::size_t>(count() * length_ * panel_); }
    // Writes those of the columns [first, last), which begin a panel and end one or all, unless nothing is needed.
    void pack(const float* right, float* panels, std::int64_t first, std::int64_t last) const;
    // Sets what of the right side a product reads, from column `first` on, which begins a panel.
    void set(ProductRun& run, const float* right, const float* panels, std::int64_t first) const;
    std::int64_t count() const { return (columns_ + panel_ - 1) / panel_; }
    // Predicted, of one matrix.
    double cycles() const { return ready_ ? 0 : 0.6 * static_cast<double>(length_ * columns_); }

   private:
    void (*transpose_)(const Word*, std::ptrdiff_t, Word*, std::ptrdiff_t, std::int64_t, std::int64_t);
    std::int64_t length_, columns_, step_, column_, panel_;
    bool ready_;
};

// Dims with other matrices behind them.
Shape with_matrix(const Shape& dims, std::int64_t rows, std::int64_t columns);
void report_product(StepReport& report, double cycles, std::int64_t multiply_adds);
// Predicted cycles of a product of one image, of `images` images; packing apart.
double product_cycles(const Kernels& kernels, std::int64_t rows, std::int64_t columns, std::int64_t length, int images);

}  // namespace secateur
