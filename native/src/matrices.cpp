#include "matrices.hpp"

#include <algorithm>

#include "memory.hpp"

namespace secateur {

Matrices::Matrices(const Storage& storage, const Shape& dims) {
    const auto strides = broadcast(storage, dims);
    const std::size_t leading = dims.size() - 2;
    places = offsets_of(Shape(dims.begin(), dims.end() - 2), strides);
    rows = dims[leading], columns = dims[leading + 1], row = strides[leading], column = strides[leading + 1];
}

Matrices Matrices::transposed() const {
    Matrices turned = *this;
    std::swap(turned.rows, turned.columns), std::swap(turned.row, turned.column);
    return turned;
}

ProductRun product_of(const Matrices& left, const float* a, const Matrices& right, const float* b,
                      const Matrices& target, float* made) {
    ProductRun run{};
    run.left = a, run.left_row = left.row, run.left_step = left.column;
    run.right = b, run.right_step = right.row, run.right_column = right.column;
    run.target = made, run.target_row = target.row, run.target_column = target.column;
    run.rows = static_cast<int>(left.rows), run.columns = static_cast<int>(right.columns),
    run.length = static_cast<int>(left.columns);
    return run;
}

Panels::Panels(const Matrices& right, std::int64_t rows, const Kernels& kernels)
    : transpose_(kernels.transpose), length_(right.rows), columns_(right.columns), step_(right.row),
      column_(right.column), panel_(kernels.panel), ready_(column_ == 1 && (rows <= kernels.tile_rows)) {}

void Panels::pack(const float* right, float* panels, std::int64_t first, std::int64_t last) const {
    if (ready_) return;
    for (panels += first * length_; first < last; first += panel_, panels += length_ * panel_) {
        const std::int64_t some = std::min(panel_, columns_ - first);
        const float* from = right + first * column_;
        if (some < panel_)
            for (std::int64_t k = 0; k < length_; ++k)
                std::fill(panels + k * panel_ + some, panels + (k + 1) * panel_, 0.0f);
        if (column_ == 1) {
            for (std::int64_t k = 0; k < length_; ++k) std::copy_n(from + k * step_, some, panels + k * panel_);
        } else if (step_ == 1) {
            transpose_(as_words(from), column_, as_words(panels), panel_, some, length_);
        } else {
            for (std::int64_t k = 0; k < length_; ++k)
                for (std::int64_t j = 0; j < some; ++j) panels[k * panel_ + j] = from[k * step_ + j * column_];
        }
    }
}

void Panels::set(ProductRun& run, const float* right, const float* panels, std::int64_t first) const {
    run.length = static_cast<int>(length_);
    if (ready_) run.right = right + first, run.right_step = step_, run.right_column = panel_;
    else run.right = panels + first * length_, run.right_step = panel_, run.right_column = length_ * panel_;
}

Shape with_matrix(const Shape& dims, std::int64_t rows, std::int64_t columns) {
    Shape made(dims.begin(), dims.end() - 2);
    made.push_back(rows), made.push_back(columns);
    return made;
}

void report_product(StepReport& report, double cycles, std::int64_t multiply_adds) {
    report.predicted_cycles = cycles, report.density = 1;
    report.multiply_adds = report.nonzero_multiply_adds = multiply_adds;
}

double product_cycles(const Kernels& kernels, std::int64_t rows, std::int64_t columns, std::int64_t length,
                      int images) {
    const double depth = static_cast<double>(length) * kernels.cycles.multiply_add;
    if (images > 1) return 1.4 * static_cast<double>(rows * columns * images / kernels.lanes) * depth;
    const std::int64_t tall = rows == 1 ? 4 : round_up(rows, kernels.tile_rows);
    return 1.15 * static_cast<double>(tall * round_up(columns, kernels.panel) / kernels.lanes) * depth;
}

}  // namespace secateur
