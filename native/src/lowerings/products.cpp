// Products of two values.
#include <algorithm>
#include <utility>

#include "arranging.hpp"
#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "matrices.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

std::optional<Kind> read_product(const Node& node) {
    if (node.op != "matmul") return {};
    return kind::Product{integer_of(node, "transposed") != 0};
}

struct ProductSides {
    Matrices left, right, target;
};

ProductSides sides_of(const Setting& setting, const Operation& operation) {
    const Shape& dims = setting.output(operation).dims;
    const std::int64_t rows = dims[dims.size() - 2], columns = dims.back(),
                       length = setting.input(operation).dims.back();
    const bool transposed = std::get<kind::Product>(operation.kind).transposed;
    const Matrices right(setting.input(operation, 1),
                         transposed ? with_matrix(dims, columns, length) : with_matrix(dims, length, columns));
    return {Matrices(setting.input(operation, 0), with_matrix(dims, rows, length)),
            transposed ? right.transposed() : right, Matrices(setting.output(operation), dims)};
}

double product_cycles(const Setting& setting, const Operation& operation) {
    const auto [left, right, target] = sides_of(setting, operation);
    double each = secateur::product_cycles(setting.kernels, left.rows, right.columns, left.columns, setting.images);
    if (setting.images == 1) each += Panels(right, left.rows, setting.kernels).cycles();
    return static_cast<double>(target.places.size()) * each + traffic(setting, operation);
}

// Into how many parts `size` is divided, so that `items` times as many are enough for threads.
std::int64_t parts_of(std::int64_t size, std::int64_t items, int threads) {
    const std::int64_t wanted = threads == 1 ? 1 : (4 * threads + items - 1) / std::max<std::int64_t>(1, items);
    return std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, size));
}

// An item is, of one image, some panels of the columns of a product; of several, some of its rows for a vector of images.
class Products {
   public:
    Products(const Compiler& compiler, const Operation& operation)
        : kernels_(compiler.setting().kernels), sides_(sides_of(compiler.setting(), operation)),
          panels_(sides_.right, sides_.left.rows, kernels_), left_(compiler.place(operation.inputs[0])),
          right_(compiler.place(operation.inputs[1])), target_(compiler.place(operation.output)),
          single_(compiler.setting().images == 1),
          across_(single_ ? panels_.count() : compiler.setting().images / kernels_.lanes),
          parts_(single_ ? parts_of(across_, count(), compiler.threads())
                         : parts_of(sides_.left.rows, count() * across_, compiler.threads())) {}

    std::int64_t items() const { return count() * parts_ * (single_ ? 1 : across_); }
    std::size_t scratch_words() const { return single_ ? panels_.words() : 0; }
    std::int64_t multiply_adds() const {
        return count() * sides_.left.rows * sides_.left.columns * sides_.right.columns;
    }

    void run(const Frame& frame, std::int64_t begin, std::int64_t end, float* panels) const {
        if (!single_) {
            for (std::int64_t item = begin; item < end; ++item) run_images(frame, item);
            return;
        }
        std::pair<std::int64_t, std::int64_t> packed{-1, 0};
        for (std::int64_t item = begin; item < end; ++item) run_image(frame, item, panels, packed);
    }

   private:
    std::int64_t count() const { return static_cast<std::int64_t>(sides_.target.places.size()); }

    ProductRun whole(const Frame& frame, std::size_t matrix) const {
        return product_of(sides_.left, frame.floats(left_ + sides_.left.places[matrix]), sides_.right,
                          frame.floats(right_ + sides_.right.places[matrix]), sides_.target,
                          frame.floats(target_ + sides_.target.places[matrix]));
    }

    // packed: which panels are in `panels`, by their matrix and their first column.
    void run_image(const Frame& frame, std::int64_t item, float* panels,
                   std::pair<std::int64_t, std::int64_t>& packed) const {
        const std::size_t matrix = static_cast<std::size_t>(item / parts_);
        const std::int64_t part = item % parts_, first = across_ * part / parts_ * kernels_.panel,
                           last = std::min(sides_.right.columns, across_ * (part + 1) / parts_ * kernels_.panel);
        ProductRun run = whole(frame, matrix);
        const std::pair wanted{sides_.right.places[matrix], first};
        if (std::exchange(packed, wanted) != wanted) panels_.pack(run.right, panels, first, last);
        panels_.set(run, run.right, panels, first);
        run.target += first, run.columns = static_cast<int>(last - first);
        kernels_.multiply(run);
    }

    void run_images(const Frame& frame, std::int64_t item) const {
        const std::int64_t vector = item % across_ * kernels_.lanes, part = item / across_ % parts_,
                           first = sides_.left.rows * part / parts_, last = sides_.left.rows * (part + 1) / parts_;
        ProductRun run = whole(frame, static_cast<std::size_t>(item / across_ / parts_));
        run.left += first * run.left_row + vector, run.right += vector, run.target += first * run.target_row + vector;
        run.rows = static_cast<int>(last - first);
        kernels_.multiply_images(run);
    }

    const Kernels& kernels_;
    ProductSides sides_;
    Panels panels_;
    std::int64_t left_, right_, target_;  // places
    bool single_;
    std::int64_t across_, parts_;  // panels, or vectors of images; into how many parts panels or rows are divided
};

void compile_product(Compiler& compiler, const Operation& operation) {
    const Products products(compiler, operation);
    compiler.need_scratch(products.scratch_words());
    Step& step = compiler.push(operation, "dense product");
    step.items = products.items();
    report_product(step.report, product_cycles(compiler.setting(), operation), products.multiply_adds());
    step.run = [products](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
        products.run(frame, begin, end, as_floats(scratch));
    };
}

// Matrices may lie anyhow.
void arrange_product(Arrangement&, Operation&) {}

}  // namespace

const Lowering lowerings::product = {
    .read = read_product, .cycles = product_cycles, .compile = compile_product, .arrange = arrange_product};

}  // namespace secateur
