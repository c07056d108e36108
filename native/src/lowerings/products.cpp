// Products of two values, and attention, which is two of them with a softmax between.
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "arranging.hpp"
#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "matrices.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

// ---- Products ---------------------------------------------------------------------------------------------------

std::optional<Kind> read_product(const Node& node) {
    if (node.op != "matmul") return {};
    return kind::Product{integer_of(node, "transposed") != 0};
}

struct ProductSides {
    Matrices left, right, target;
};

Shape with_matrix(const Shape& dims, std::int64_t rows, std::int64_t columns) {
    Shape made(dims.begin(), dims.end() - 2);
    made.push_back(rows), made.push_back(columns);
    return made;
}

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

void report_product(Step& step, double cycles, std::int64_t multiply_adds) {
    step.report.predicted_cycles = cycles;
    step.report.multiply_adds = step.report.nonzero_multiply_adds = multiply_adds;
    step.report.density = 1;
}

void compile_product(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Kernels& kernels = setting.kernels;
    const ProductSides sides = sides_of(setting, operation);
    const std::int64_t from = compiler.place(operation.inputs[0]), by = compiler.place(operation.inputs[1]),
                       to = compiler.place(operation.output), lanes = kernels.lanes,
                       count = static_cast<std::int64_t>(sides.target.places.size());
    const bool single = setting.images == 1;
    const Panels panels(sides.right, sides.left.rows, kernels);
    // One image: parts of the columns, whole panels; several: of the rows, and vectors of images.
    const std::int64_t across = single ? panels.columns_panels() : setting.images / lanes;
    const std::int64_t parts = single ? parts_of(across, count, compiler.threads())
                                      : across * parts_of(sides.left.rows, count * across, compiler.threads());
    if (single) compiler.need_scratch(panels.words());
    Step& step = compiler.push(operation, "dense product");
    step.items = count * parts;
    report_product(step, product_cycles(setting, operation),
                   count * sides.left.rows * sides.left.columns * sides.right.columns);
    step.run = [=, &kernels](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
        const auto& [left, right, target] = sides;
        std::pair<std::int64_t, std::int64_t> packed{-1, 0};
        for (std::int64_t item = begin; item < end; ++item) {
            const std::size_t matrix = static_cast<std::size_t>(item / parts);
            const float *a = frame.floats(from + left.places[matrix]), *b = frame.floats(by + right.places[matrix]);
            float* made = frame.floats(to + target.places[matrix]);
            ProductRun run{a,
                           left.row,
                           left.column,
                           b,
                           right.row,
                           right.column,
                           made,
                           target.row,
                           target.column,
                           nullptr,
                           static_cast<int>(left.rows),
                           static_cast<int>(right.columns),
                           static_cast<int>(left.columns)};
            if (!single) {
                const std::int64_t rows = parts / across, part = item % parts / across, vector = item % across * lanes;
                const std::int64_t first = left.rows * part / rows;
                run.rows = static_cast<int>(left.rows * (part + 1) / rows - first);
                run.left += first * left.row + vector, run.right += vector, run.target += first * target.row + vector;
                kernels.multiply_images(run);
                continue;
            }
            const std::int64_t first = across * (item % parts) / parts * kernels.panel,
                               last = std::min(right.columns, across * (item % parts + 1) / parts * kernels.panel);
            const std::pair wanted{right.places[matrix], first};
            if (std::exchange(packed, wanted) != wanted) panels.pack(b, as_floats(scratch), first, last);
            panels.set(run, b, as_floats(scratch), first);
            run.target += first, run.columns = static_cast<int>(last - first);
            kernels.multiply(run);
        }
    };
}

// ---- Attention --------------------------------------------------------------------------------------------------

std::optional<Kind> read_attention(const Node& node) {
    if (node.op != "attention") return {};
    const auto boolean = node.integers.find("boolean");
    return kind::Attention{number_of(node, "scale"), integer_of(node, "causal") != 0,
                           boolean != node.integers.end() && boolean->second[0] != 0};
}

struct Heads {
    Matrices query, key, value, target;  // key: as it is multiplied with, (E, S)
    std::optional<Matrices> mask;
};

// The places of the heads that every head of a query reads: each `shared` times.
Offsets shared_places(const Storage& storage, Shape dims, std::int64_t shared) {
    auto strides = broadcast(storage, dims);
    dims.resize(dims.size() - 2), strides.resize(dims.size());
    dims.push_back(shared), strides.push_back(0);
    return offsets_of(dims, strides);
}

Heads heads_of(const Setting& setting, const Operation& operation) {
    const Storage &query = setting.input(operation, 0), &key = setting.input(operation, 1),
                  &value = setting.input(operation, 2);
    const Shape& dims = setting.output(operation).dims;
    const std::size_t rank = dims.size(), keys = key.dims.size();
    const std::int64_t rows = dims[rank - 2], heads = dims[rank - 3], groups = key.dims[keys - 3],
                       count = key.dims[keys - 2], shared = heads / groups;
    Shape fewer = dims;
    fewer[rank - 3] = groups;
    const auto grouped = [&](const Storage& storage) {
        const Shape seen = with_matrix(fewer, count, storage.dims.back());
        Matrices matrices(storage, seen);
        matrices.places = shared_places(storage, seen, shared);
        return matrices;
    };
    Heads found{Matrices(query, with_matrix(dims, rows, query.dims.back())),
                grouped(key).transposed(),
                grouped(value),
                Matrices(setting.output(operation), dims),
                {}};
    if (operation.inputs.size() > 3) found.mask.emplace(setting.input(operation, 3), with_matrix(dims, rows, count));
    return found;
}

// How much is computed at a time: some queries of one head, whose scores stay in the nearest caches.
struct Blocks {
    static constexpr std::int64_t kNear = 8192;  // scores
    std::int64_t rows, count, pitch;             // queries in a block, blocks, words between rows of scores

    Blocks(const Heads& heads, const Setting& setting) {
        const Kernels& kernels = setting.kernels;
        pitch = setting.images == 1 ? round_up(heads.key.columns, kernels.lanes) : heads.key.columns * kernels.lanes;
        const std::int64_t step = kernels.tile_rows;
        rows = std::clamp<std::int64_t>(kNear / std::max<std::int64_t>(1, pitch) / step, 1, 16) * step;
        rows = std::min(rows, heads.query.rows);
        count = (heads.query.rows + rows - 1) / rows;
    }
    std::int64_t words() const { return round_up(rows * pitch + kOverread, 16); }
};

double attention_cycles(const Setting& setting, const Operation& operation) {
    const Heads heads = heads_of(setting, operation);
    const auto &query = heads.query, &value = heads.value;
    const Kernels& kernels = setting.kernels;
    const std::int64_t rows = query.rows, keys = value.rows;
    double each = secateur::product_cycles(kernels, rows, keys, query.columns, setting.images) +
                  secateur::product_cycles(kernels, rows, value.columns, keys, setting.images);
    each +=
        16.0 * kernels.cycles.multiply_add * static_cast<double>(rows * keys * setting.images / kernels.lanes + rows);
    if (setting.images == 1) each += Panels(heads.key, rows, kernels).cycles() + Panels(value, rows, kernels).cycles();
    return static_cast<double>(heads.target.places.size()) * each + traffic(setting, operation);
}

// What is added to the scores of queries [first, first + rows) and the first `columns` keys: −∞ where they are not seen.
struct Added {
    const float* mask;  // null: none
    std::int64_t row, column;
    bool boolean, causal;
    std::int64_t lanes;

    void write(std::int64_t first, std::int64_t rows, std::int64_t columns, std::int64_t pitch, float* to) const {
        for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < columns; ++j)
                for (std::int64_t lane = 0; lane < lanes; ++lane) {
                    const float given = mask == nullptr ? 0 : mask[(first + i) * row + j * column + lane];
                    const bool unseen = (causal && j > first + i) || (boolean && given == 0);
                    to[i * pitch + j * lanes + lane] = unseen ? -INFINITY : boolean ? 0 : given;
                }
    }
};

// ---- Attention where queries lie side by side -------------------------------------------------------------------
//
// Scores are kept turned, keys × queries, so that queries fill vectors from their planes of features to those of what is made:
// nothing is packed, and softmax goes down columns.

bool in_planes(const Setting& setting, const Operation& operation) {
    const Storage& storage = setting.output(operation);
    return setting.images == 1 && storage.strides[storage.dims.size() - 2] == 1 && storage.strides.back() > 1;
}

struct QueryBlocks {
    std::int64_t columns, count, pitch;  // queries in a block, blocks, words between rows of scores

    QueryBlocks(const Heads& heads, const Kernels& kernels) {
        const std::int64_t panels =
            std::max<std::int64_t>(1, Blocks::kNear / (kernels.panel * std::max<std::int64_t>(1, heads.key.columns)));
        pitch = std::min(panels * kernels.panel, round_up(heads.query.rows, kernels.panel));
        columns = std::min(pitch, heads.query.rows);
        count = (heads.query.rows + columns - 1) / columns;
    }
};

// What is added to scores: nothing, a number for each key, or for each key and query.
class TurnedMask {
   public:
    TurnedMask(const Heads& heads, const kind::Attention& kind, std::int64_t place)
        : mask_(heads.mask), boolean_(kind.boolean), causal_(kind.causal), place_(place) {}

    bool any() const { return mask_ || causal_; }
    bool of_keys() const { return !causal_ && mask_->row == 0; }
    std::int64_t words(std::int64_t keys, std::int64_t pitch) const {
        return any() ? keys * (of_keys() ? 1 : pitch) : 0;
    }

    // Of `seen` keys and `columns` queries from `first` on.
    void write(const Frame& frame, std::size_t head, std::int64_t first, std::int64_t columns, std::int64_t seen,
               std::int64_t pitch, float* to) const {
        const float* given = mask_ ? frame.floats(place_ + mask_->places[head]) : nullptr;
        if (of_keys()) columns = pitch = 1;
        for (std::int64_t j = 0; j < seen; ++j)
            for (std::int64_t i = 0; i < columns; ++i) {
                const float number = given == nullptr ? 0 : given[(first + i) * mask_->row + j * mask_->column];
                const bool unseen = (causal_ && j > first + i) || (boolean_ && number == 0);
                to[j * pitch + i] = unseen ? -INFINITY : boolean_ ? 0 : number;
            }
    }
    // What two heads have in common, if it is the same number.
    std::int64_t place(std::size_t head) const { return mask_ ? mask_->places[head] : 0; }

   private:
    std::optional<Matrices> mask_;
    bool boolean_, causal_;
    std::int64_t place_;
};

void compile_turned_attention(Compiler& compiler, const Operation& operation) {
    const Setting& setting = compiler.setting();
    const Kernels& kernels = setting.kernels;
    const Heads heads = heads_of(setting, operation);
    const QueryBlocks blocks(heads, kernels);
    const kind::Attention kind = std::get<kind::Attention>(operation.kind);
    const std::int64_t from = compiler.place(operation.inputs[0]), keys = compiler.place(operation.inputs[1]),
                       values = compiler.place(operation.inputs[2]), to = compiler.place(operation.output);
    const TurnedMask mask(heads, kind, heads.mask ? compiler.place(operation.inputs[3]) : 0);
    const std::int64_t words = round_up(heads.key.columns * blocks.pitch + kOverread, 16);
    compiler.need_scratch(static_cast<std::size_t>(words + mask.words(heads.key.columns, blocks.pitch) + kOverread));
    const std::int64_t count = static_cast<std::int64_t>(heads.target.places.size()), length = heads.query.columns,
                       width = heads.value.columns;
    Step& step = compiler.push(operation, "attention of planes");
    step.items = count * blocks.count;
    report_product(step, attention_cycles(setting, operation),
                   count * heads.query.rows * heads.key.columns * (length + width));
    step.run = [=, &kernels](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
        float *scores = as_floats(scratch), *added = scores + words;
        std::pair<std::int64_t, std::int64_t> written{-1, -1};
        for (std::int64_t item = begin; item < end; ++item) {  // heads that may share a mask one after another
            const std::size_t head = static_cast<std::size_t>(item % count);
            const std::int64_t first = item / count * blocks.columns,
                               columns = std::min(blocks.columns, heads.query.rows - first);
            const std::int64_t seen = kind.causal ? std::min(heads.key.columns, first + columns) : heads.key.columns;
            const std::pair wanted{mask.place(head), first};
            if (mask.any() && std::exchange(written, wanted) != wanted)
                mask.write(frame, head, first, columns, seen, blocks.pitch, added);
            const auto whole = [](std::int64_t size) { return static_cast<int>(size); };
            kernels.multiply({frame.floats(keys + heads.key.places[head]), heads.key.column, heads.key.row,
                              frame.floats(from + heads.query.places[head]) + first, heads.query.column, kernels.panel,
                              scores, blocks.pitch, 1, nullptr, whole(seen), whole(columns), whole(length)});
            kernels.soften_columns({scores, mask.any() ? added : nullptr, blocks.pitch,
                                    mask.any() && mask.of_keys() ? 1 : blocks.pitch,
                                    mask.any() && mask.of_keys() ? 0 : 1, kind.scale, whole(seen), whole(columns)});
            kernels.multiply({frame.floats(values + heads.value.places[head]), heads.value.column, heads.value.row,
                              scores, blocks.pitch, kernels.panel, frame.floats(to + heads.target.places[head]) + first,
                              heads.target.column, 1, nullptr, whole(width), whole(columns), whole(seen)});
        }
    };
}

void compile_attention(Compiler& compiler, const Operation& operation) {
    if (in_planes(compiler.setting(), operation)) return compile_turned_attention(compiler, operation);
    const Setting& setting = compiler.setting();
    const Kernels& kernels = setting.kernels;
    const Heads heads = heads_of(setting, operation);
    const Blocks blocks(heads, setting);
    const kind::Attention kind = std::get<kind::Attention>(operation.kind);
    const std::int64_t from = compiler.place(operation.inputs[0]), keys = compiler.place(operation.inputs[1]),
                       values = compiler.place(operation.inputs[2]), to = compiler.place(operation.output);
    const bool single = setting.images == 1, masked = heads.mask.has_value();
    const std::int64_t mask = masked ? compiler.place(operation.inputs[3]) : 0,
                       vectors = single ? 1 : setting.images / kernels.lanes;
    const Panels key_panels(heads.key, heads.query.rows, kernels), value_panels(heads.value, heads.query.rows, kernels);
    const std::int64_t key_words = single ? round_up(static_cast<std::int64_t>(key_panels.words()), 16) : 0,
                       value_words = single ? round_up(static_cast<std::int64_t>(value_panels.words()), 16) : 0;
    compiler.need_scratch(static_cast<std::size_t>(key_words + value_words + 2 * blocks.words() +
                                                   blocks.rows * kernels.lanes + kOverread));
    const std::int64_t count = static_cast<std::int64_t>(heads.target.places.size()), length = heads.query.columns,
                       width = heads.value.columns;
    Step& step = compiler.push(operation, "attention");
    step.items = count * vectors * blocks.count;
    report_product(step, attention_cycles(setting, operation),
                   count * heads.query.rows * heads.key.columns * (length + width));
    step.run = [=, &kernels](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
        float *key_space = as_floats(scratch), *value_space = key_space + key_words,
              *scores = value_space + value_words, *added = scores + blocks.words(), *factors = added + blocks.words();
        std::int64_t packed_key = -1, packed_value = -1;
        for (std::int64_t item = begin; item < end; ++item) {
            const std::size_t head = static_cast<std::size_t>(item / (vectors * blocks.count));
            const std::int64_t image = item / blocks.count % vectors * kernels.lanes,
                               first = item % blocks.count * blocks.rows,
                               rows = std::min(blocks.rows, heads.query.rows - first);
            const std::int64_t seen = kind.causal ? std::min(heads.key.columns, first + rows) : heads.key.columns;
            const float *key = frame.floats(keys + heads.key.places[head]) + image,
                        *value = frame.floats(values + heads.value.places[head]) + image;
            ProductRun run{frame.floats(from + heads.query.places[head]) + first * heads.query.row + image,
                           heads.query.row,
                           heads.query.column,
                           key,
                           heads.key.row,
                           heads.key.column,
                           scores,
                           blocks.pitch,
                           kernels.lanes,
                           nullptr,
                           static_cast<int>(rows),
                           static_cast<int>(seen),
                           static_cast<int>(length)};
            if (single) {
                if (std::exchange(packed_key, heads.key.places[head]) != heads.key.places[head])
                    key_panels.pack(key, key_space, 0, heads.key.columns);
                if (std::exchange(packed_value, heads.value.places[head]) != heads.value.places[head])
                    value_panels.pack(value, value_space, 0, width);
                key_panels.set(run, key, key_space, 0);
            }
            (single ? kernels.multiply : kernels.multiply_images)(run);
            const bool adds = masked || kind.causal;
            if (adds) {
                const Added what{masked ? frame.floats(mask + heads.mask->places[head]) + image : nullptr,
                                 masked ? heads.mask->row : 0,
                                 masked ? heads.mask->column : 0,
                                 kind.boolean,
                                 kind.causal,
                                 single ? 1 : kernels.lanes};
                what.write(first, rows, seen, blocks.pitch, added);
            }
            (single ? kernels.soften
                    : kernels.soften_images)({scores, adds ? added : nullptr, blocks.pitch, kind.scale,
                                              static_cast<int>(rows), static_cast<int>(seen), factors});
            ProductRun mixing{scores,
                              blocks.pitch,
                              single ? 1 : kernels.lanes,
                              value,
                              heads.value.row,
                              heads.value.column,
                              frame.floats(to + heads.target.places[head]) + first * heads.target.row + image,
                              heads.target.row,
                              heads.target.column,
                              factors,
                              static_cast<int>(rows),
                              static_cast<int>(width),
                              static_cast<int>(seen)};
            if (single) value_panels.set(mixing, value, value_space, 0), mixing.length = static_cast<int>(seen);
            (single ? kernels.multiply : kernels.multiply_images)(mixing);
        }
    };
}

// Where queries lie side by side, so does what is made of them.
void arrange_attention(Arrangement& arrangement, Operation& operation) {
    const Storage query = arrangement.storage(operation.inputs[0]);
    const std::size_t rank = query.dims.size();
    const bool planes =
        query.strides[rank - 2] == 1 && query.strides.back() > 1 && query.dims[rank - 2] >= arrangement.lanes();
    if (!planes) return;
    Storage made{arrangement.dims(operation.output), std::vector<std::int64_t>(rank)};
    made.strides[rank - 2] = 1;
    made.size = made.strides[rank - 1] = plane_of(made.dims[rank - 2], arrangement.lanes());
    made.size *= made.dims.back();
    for (std::size_t axis = rank - 2; axis-- > 0; made.size *= made.dims[axis]) made.strides[axis] = made.size;
    arrangement.put(operation, made);
}

// Matrices may lie anyhow.
void arrange_product(Arrangement&, Operation&) {}

}  // namespace

const Lowering lowerings::product = {
    .read = read_product, .cycles = product_cycles, .compile = compile_product, .arrange = arrange_product};
const Lowering lowerings::attention = {
    .read = read_attention, .cycles = attention_cycles, .compile = compile_attention, .arrange = arrange_attention};

}  // namespace secateur
