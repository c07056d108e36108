// Attention: two products with a softmax between, for some queries of one head at a time, so that their scores stay in the
// nearest caches.
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

constexpr std::int64_t kNear = 8192;  // scores

std::optional<Kind> read(const Node& node) {
    if (node.op != "attention") return {};
    return kind::Attention{number_of(node, "scale"), integer_of(node, "causal") != 0, integer_of(node, "boolean") != 0};
}

struct Heads {
    Matrices query, key, value, target;  // key: as it is multiplied with, (E, S)
    std::optional<Matrices> mask;

    std::int64_t count() const { return static_cast<std::int64_t>(target.places.size()); }
    std::int64_t queries() const { return query.rows; }
    std::int64_t keys() const { return key.columns; }
    std::int64_t multiply_adds() const { return count() * queries() * keys() * (query.columns + value.columns); }
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
    const std::int64_t rows = dims[rank - 2], groups = key.dims[keys - 3], count = key.dims[keys - 2];
    Shape fewer = dims;
    fewer[rank - 3] = groups;
    const auto grouped = [&](const Storage& storage) {
        const Shape seen = with_matrix(fewer, count, storage.dims.back());
        Matrices matrices(storage, seen);
        matrices.places = shared_places(storage, seen, dims[rank - 3] / groups);
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

double cycles(const Setting& setting, const Operation& operation) {
    const Heads heads = heads_of(setting, operation);
    const Kernels& kernels = setting.kernels;
    const std::int64_t rows = heads.queries(), keys = heads.keys(), width = heads.value.columns;
    double each = product_cycles(kernels, rows, keys, heads.query.columns, setting.images) +
                  product_cycles(kernels, rows, width, keys, setting.images);
    each +=
        16.0 * kernels.cycles.multiply_add * static_cast<double>(rows * keys * setting.images / kernels.lanes + rows);
    if (setting.images == 1)
        each += Panels(heads.key, rows, kernels).cycles() + Panels(heads.value, rows, kernels).cycles();
    return static_cast<double>(heads.count()) * each + traffic(setting, operation);
}

// What is added to scores.
class Mask {
   public:
    Mask(const Compiler& compiler, const Operation& operation, const Heads& heads)
        : mask_(heads.mask), kind_(std::get<kind::Attention>(operation.kind)),
          place_(mask_ ? compiler.place(operation.inputs[3]) : 0) {}

    bool any() const { return mask_ || kind_.causal; }
    // Whether it is the same for all queries.
    bool of_keys() const { return mask_ && !kind_.causal && mask_->row == 0; }
    // What tells the masks of two heads apart.
    std::int64_t place(std::size_t head) const { return mask_ ? mask_->places[head] : 0; }
    // How many of all keys the queries before `end` see.
    std::int64_t seen(std::int64_t keys, std::int64_t end) const { return kind_.causal ? std::min(keys, end) : keys; }

    // write(query, key, number) for queries [first, first + queries) and keys [0, keys) of one head.
    template <typename Write>
    void visit(const Frame& frame, std::size_t head, std::int64_t image, std::int64_t first, std::int64_t queries,
               std::int64_t keys, const Write& write) const {
        const float* given = mask_ ? frame.floats(place_ + mask_->places[head]) + image : nullptr;
        for (std::int64_t i = first; i < first + queries; ++i)
            for (std::int64_t j = 0; j < keys; ++j) {
                const float number = given == nullptr ? 0 : given[i * mask_->row + j * mask_->column];
                const bool unseen = (kind_.causal && j > i) || (kind_.boolean && number == 0);
                write(i - first, j, unseen ? -INFINITY : kind_.boolean ? 0 : number);
            }
    }

   private:
    std::optional<Matrices> mask_;
    kind::Attention kind_;
    std::int64_t place_;
};

// Some queries of one head. image: the first of a vector of them.
struct Block {
    std::size_t head;
    std::int64_t image, first, queries, seen;
};

struct Places {
    std::int64_t query, key, value, target;

    Places(const Compiler& compiler, const Operation& operation)
        : query(compiler.place(operation.inputs[0])), key(compiler.place(operation.inputs[1])),
          value(compiler.place(operation.inputs[2])), target(compiler.place(operation.output)) {}
};

// ---- A row of scores for each query -----------------------------------------------------------------------------

class RowAttention {
   public:
    RowAttention(const Compiler& compiler, const Operation& operation)
        : kernels_(compiler.setting().kernels), heads_(heads_of(compiler.setting(), operation)),
          places_(compiler, operation), mask_(compiler, operation, heads_),
          keys_(heads_.key, heads_.queries(), kernels_), values_(heads_.value, heads_.queries(), kernels_),
          single_(compiler.setting().images == 1), lanes_(single_ ? 1 : kernels_.lanes),
          vectors_(single_ ? 1 : compiler.setting().images / kernels_.lanes),
          scale_(std::get<kind::Attention>(operation.kind).scale) {
        pitch_ = single_ ? round_up(heads_.keys(), kernels_.lanes) : heads_.keys() * lanes_;
        const std::int64_t tile = kernels_.tile_rows;
        queries_ = std::clamp<std::int64_t>(kNear / std::max<std::int64_t>(1, pitch_) / tile, 1, 16) * tile;
        queries_ = std::min(queries_, heads_.queries());
        blocks_ = (heads_.queries() + queries_ - 1) / queries_;
    }

    std::int64_t items() const { return heads_.count() * vectors_ * blocks_; }
    std::int64_t multiply_adds() const { return heads_.multiply_adds(); }
    std::size_t scratch_words() const {
        return static_cast<std::size_t>(key_words() + value_words() + 2 * score_words() + queries_ * kernels_.lanes +
                                        kOverread);
    }

    void run(const Frame& frame, std::int64_t begin, std::int64_t end, float* scratch) const {
        Space space{scratch, scratch + key_words(), nullptr, nullptr, nullptr};
        space.scores = space.values + value_words(), space.added = space.scores + score_words(),
        space.factors = space.added + score_words();
        for (std::int64_t item = begin; item < end; ++item) run_block(frame, block(item), space);
    }

   private:
    struct Space {
        float *keys, *values, *scores, *added, *factors;
        std::int64_t packed_key = -1, packed_value = -1;  // places of what is in `keys` and `values`
    };

    std::int64_t key_words() const { return single_ ? round_up(static_cast<std::int64_t>(keys_.words()), 16) : 0; }
    std::int64_t value_words() const { return single_ ? round_up(static_cast<std::int64_t>(values_.words()), 16) : 0; }
    std::int64_t score_words() const { return round_up(queries_ * pitch_ + kOverread, 16); }

    Block block(std::int64_t item) const {
        Block found{static_cast<std::size_t>(item / blocks_ / vectors_), item / blocks_ % vectors_ * lanes_,
                    item % blocks_ * queries_, 0, 0};
        found.queries = std::min(queries_, heads_.queries() - found.first);
        found.seen = mask_.seen(heads_.keys(), found.first + found.queries);
        return found;
    }

    void run_block(const Frame& frame, const Block& at, Space& space) const {
        const auto multiply = single_ ? kernels_.multiply : kernels_.multiply_images;
        const float *key = frame.floats(places_.key + heads_.key.places[at.head]) + at.image,
                    *value = frame.floats(places_.value + heads_.value.places[at.head]) + at.image;
        if (single_) pack(at, key, value, space);
        multiply(scoring(frame, at, key, space));
        if (mask_.any()) add(frame, at, space.added);
        const auto soften = single_ ? kernels_.soften : kernels_.soften_images;
        soften({space.scores, mask_.any() ? space.added : nullptr, pitch_, scale_, static_cast<int>(at.queries),
                static_cast<int>(at.seen), space.factors});
        multiply(mixing(frame, at, value, space));
    }

    void pack(const Block& at, const float* key, const float* value, Space& space) const {
        const std::int64_t of_key = heads_.key.places[at.head], of_value = heads_.value.places[at.head];
        if (std::exchange(space.packed_key, of_key) != of_key) keys_.pack(key, space.keys, 0, heads_.keys());
        if (std::exchange(space.packed_value, of_value) != of_value)
            values_.pack(value, space.values, 0, heads_.value.columns);
    }

    ProductRun scoring(const Frame& frame, const Block& at, const float* key, const Space& space) const {
        const float* query = frame.floats(places_.query + heads_.query.places[at.head]) + at.image;
        ProductRun run =
            product_of(heads_.query, query + at.first * heads_.query.row, heads_.key, key, heads_.target, space.scores);
        if (single_) keys_.set(run, key, space.keys, 0);
        run.target_row = pitch_, run.target_column = lanes_;
        run.rows = static_cast<int>(at.queries), run.columns = static_cast<int>(at.seen);
        return run;
    }

    ProductRun mixing(const Frame& frame, const Block& at, const float* value, const Space& space) const {
        float* made = frame.floats(places_.target + heads_.target.places[at.head]) + at.image;
        ProductRun run = product_of(heads_.query, space.scores, heads_.value, value, heads_.target,
                                    made + at.first * heads_.target.row);
        if (single_) values_.set(run, value, space.values, 0);
        run.left_row = pitch_, run.left_step = lanes_, run.factors = space.factors;
        run.rows = static_cast<int>(at.queries), run.length = static_cast<int>(at.seen);
        return run;
    }

    void add(const Frame& frame, const Block& at, float* added) const {
        for (std::int64_t lane = 0; lane < lanes_; ++lane)
            mask_.visit(frame, at.head, at.image + lane, at.first, at.queries, at.seen,
                        [&](std::int64_t query, std::int64_t key, float number) {
                            added[query * pitch_ + key * lanes_ + lane] = number;
                        });
    }

    const Kernels& kernels_;
    Heads heads_;
    Places places_;
    Mask mask_;
    Panels keys_, values_;
    bool single_;
    std::int64_t lanes_, vectors_;  // images that are computed together, and how many times
    float scale_;
    std::int64_t queries_, blocks_, pitch_;  // queries in a block, blocks, words between rows of scores
};

// ---- A column of scores for each query --------------------------------------------------------------------------
//
// Where queries lie side by side, they fill vectors from their planes of features to those of what is made: nothing is
// packed, and softmax goes down columns.

bool in_planes(const Setting& setting, const Operation& operation) {
    const Storage& storage = setting.output(operation);
    return setting.images == 1 && storage.strides[storage.dims.size() - 2] == 1 && storage.strides.back() > 1;
}

class ColumnAttention {
   public:
    ColumnAttention(const Compiler& compiler, const Operation& operation)
        : kernels_(compiler.setting().kernels), heads_(heads_of(compiler.setting(), operation)),
          places_(compiler, operation), mask_(compiler, operation, heads_),
          scale_(std::get<kind::Attention>(operation.kind).scale) {
        const std::int64_t panel = kernels_.panel, near = kNear / (panel * std::max<std::int64_t>(1, heads_.keys()));
        pitch_ = std::min(std::max<std::int64_t>(1, near) * panel, round_up(heads_.queries(), panel));
        queries_ = std::min(pitch_, heads_.queries());
        blocks_ = (heads_.queries() + queries_ - 1) / queries_;
    }

    std::int64_t items() const { return heads_.count() * blocks_; }
    std::int64_t multiply_adds() const { return heads_.multiply_adds(); }
    std::size_t scratch_words() const {
        return static_cast<std::size_t>(2 * score_words() + round_up(pitch_ + kOverread, 16));
    }

    // Heads that may share a mask come one after another.
    void run(const Frame& frame, std::int64_t begin, std::int64_t end, float* scores) const {
        float *added = scores + score_words(), *factors = added + score_words();
        std::pair<std::int64_t, std::int64_t> written{-1, -1};
        for (std::int64_t item = begin; item < end; ++item) {
            const Block at = block(item);
            const std::pair wanted{mask_.place(at.head), at.first};
            if (mask_.any() && std::exchange(written, wanted) != wanted) add(frame, at, added);
            run_block(frame, at, scores, added, factors);
        }
    }

   private:
    std::int64_t score_words() const { return round_up(heads_.keys() * pitch_ + kOverread, 16); }

    Block block(std::int64_t item) const {
        Block found{static_cast<std::size_t>(item % heads_.count()), 0, item / heads_.count() * queries_, 0, 0};
        found.queries = std::min(queries_, heads_.queries() - found.first);
        found.seen = mask_.seen(heads_.keys(), found.first + found.queries);
        return found;
    }

    void run_block(const Frame& frame, const Block& at, float* scores, const float* added, float* factors) const {
        const std::size_t head = at.head;
        const int columns = static_cast<int>(at.queries), rows = static_cast<int>(at.seen);
        kernels_.multiply({frame.floats(places_.key + heads_.key.places[head]), heads_.key.column, heads_.key.row,
                           frame.floats(places_.query + heads_.query.places[head]) + at.first, heads_.query.column,
                           kernels_.panel, scores, pitch_, 1, nullptr, rows, columns,
                           static_cast<int>(heads_.query.columns)});
        kernels_.soften_columns({scores, mask_.any() ? added : nullptr, pitch_, mask_.of_keys() ? 1 : pitch_,
                                 mask_.of_keys() ? 0 : 1, scale_, rows, columns, factors});
        kernels_.multiply({frame.floats(places_.value + heads_.value.places[head]), heads_.value.column,
                           heads_.value.row, scores, pitch_, kernels_.panel,
                           frame.floats(places_.target + heads_.target.places[head]) + at.first, heads_.target.column,
                           1, nullptr, static_cast<int>(heads_.value.columns), columns, rows, factors});
    }

    // A number for each key, or for each key and query.
    void add(const Frame& frame, const Block& at, float* added) const {
        const bool once = mask_.of_keys();
        mask_.visit(frame, at.head, 0, at.first, once ? 1 : at.queries, at.seen,
                    [&](std::int64_t query, std::int64_t key, float number) {
                        added[once ? key : key * pitch_ + query] = number;
                    });
    }

    const Kernels& kernels_;
    Heads heads_;
    Places places_;
    Mask mask_;
    float scale_;
    std::int64_t queries_, blocks_, pitch_;  // as of RowAttention, but between rows of keys
};

// ---- Compiling --------------------------------------------------------------------------------------------------

template <typename Attention>
void add_attention(Compiler& compiler, const Operation& operation, const char* name) {
    const Attention attention(compiler, operation);
    compiler.need_scratch(attention.scratch_words());
    Step& step = compiler.push(operation, name);
    step.items = attention.items();
    report_product(step.report, cycles(compiler.setting(), operation), attention.multiply_adds());
    step.run = [attention](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
        attention.run(frame, begin, end, as_floats(scratch));
    };
}

void compile(Compiler& compiler, const Operation& operation) {
    if (in_planes(compiler.setting(), operation))
        return add_attention<ColumnAttention>(compiler, operation, "attention of planes");
    add_attention<RowAttention>(compiler, operation, "attention");
}

// Where queries lie side by side, so does what is made of them.
void arrange(Arrangement& arrangement, Operation& operation) {
    const Storage query = arrangement.storage(operation.inputs[0]);
    const Shape dims = arrangement.dims(operation.output);
    const std::size_t rank = dims.size();
    const bool planes = query.dims.size() == rank && query.strides[rank - 2] == 1 && query.strides.back() > 1 &&
                        query.dims[rank - 2] >= arrangement.lanes();
    if (!planes) return;
    Storage made{dims, std::vector<std::int64_t>(rank)};
    made.strides[rank - 2] = 1;
    made.size = made.strides[rank - 1] = plane_of(made.dims[rank - 2], arrangement.lanes());
    made.size *= made.dims.back();
    for (std::size_t axis = rank - 2; axis-- > 0; made.size *= made.dims[axis]) made.strides[axis] = made.size;
    arrangement.put(operation, made);
}

}  // namespace

const Lowering lowerings::attention = {.read = read, .cycles = cycles, .compile = compile, .arrange = arrange};

}  // namespace secateur
