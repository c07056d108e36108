// The one walk over a matrix of symbols that encoder, decoder and meter share.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "coders.hpp"
#include "model.hpp"
#include "secateur/codec.hpp"

namespace secateur::codec {

struct Symbol {
    bool zero;
    bool negative;
    std::uint32_t level;
    std::uint32_t low;
};

// Which predictors a tensor is coded with: the bytes before the streams. One byte, `base`, belongs to the symbols.
struct Plan {
    bool full = false;  // no weight is zero, and no mask is coded
    bool mask_column = false, mask_row = false, mask_near = false;
    bool sign_near = false;
    bool level_near = false, level_row = false;
    std::uint8_t base = 0;
    std::uint8_t modelled = 0;  // how many of the low bits, from the top, are modelled: 0 to 3
    std::uint8_t pivot = 0;     // the level that the first decision compares with: 0 to 19
    std::uint8_t trimmed = 0;   // how many bits of a word, from the bottom, are zero in all weights and left out
    std::uint16_t lag = 0;
    std::uint16_t density = 1;  // in 1/65536, from 1
};

constexpr std::uint32_t kUnary = 20;  // levels from here on follow as 8 plain bits
constexpr int kMostModelled = 3;
constexpr std::size_t kRun = 1024;  // symbols that are coded at a time: first their mask, then their values

// What is known of the current row, seen backwards; before the row there is nothing.
class Row {
   public:
    Row(std::size_t cols, std::size_t lag)
        : lag_(lag), ahead_(std::max<std::size_t>(3, 2 * lag)), kept_(ahead_ + cols), signs_(ahead_ + cols),
          sizes_(ahead_ + cols) {}

    std::uint8_t* kept(std::size_t col) { return kept_.data() + ahead_ + col; }   // 1 where not zero
    std::uint8_t* sign(std::size_t col) { return signs_.data() + ahead_ + col; }  // 0 zero, 1 negative, 2 positive
    std::uint8_t* size(std::size_t col) { return sizes_.data() + ahead_ + col; }  // level + 1, at most 21, or 0
    std::size_t lag() const { return lag_; }

    // 0 to 728: the signs of six, as digits to base 3.
    std::size_t signs(std::size_t col) {
        const std::uint8_t* here = sign(col);
        std::size_t found = here[-1] + 3u * here[-2];
        if (lag_ > 0) {
            const std::uint8_t* back = here - lag_;
            found += 9u * *back + 27u * back[1] + 81u * back[-1] + 243u * *(back - lag_);
        }
        return found;
    }

    // The sum of the sizes of five, and how many of them are not zero.
    std::pair<int, int> sizes(std::size_t col) {
        const std::uint8_t* here = size(col);
        int sum = 0, count = 0;
        const auto add = [&](std::uint8_t size) {
            sum += size;
            count += size != 0;
        };
        add(here[-1]);
        add(here[-2]);
        if (lag_ > 0) {
            const std::uint8_t* back = here - lag_;
            add(*back);
            add(back[1]);
            add(back[-1]);
        }
        return {sum, count};
    }

   private:
    std::size_t lag_, ahead_;
    std::vector<std::uint8_t> kept_, signs_, sizes_;
};

template <class Coder>
class Model {
   public:
    Model(Coder& coder, const Plan& plan, Matrix shape, int low_bits)
        : coder_(coder), plan_(plan), low_bits_(low_bits), modelled_(std::min<int>(plan.modelled, low_bits)),
          base_(kTables.stretch[plan.density >> 4]), row_(shape.cols, plan.lag),
          column_(plan.mask_column ? shape.cols : 0, start()), near_(plan.mask_near ? 128 : 0, start()),
          signs_(plan.sign_near ? 729 : 0) {}

    void begin_row() {
        along_ = start();
        average_ = 0;
    }

    // `count` symbols of a row, kRun at most, from column `from` on: first which are zero, then those that are not.
    // Returns where the latter are.
    std::span<const std::uint16_t> run(std::size_t from, std::size_t count, Symbol* symbols) {
        const std::size_t kept = masks(from, count, symbols);
        const std::span places(places_.data(), kept);
        if (plan_.sign_near) std::fill_n(row_.sign(from), count, std::uint8_t{0});
        if (plan_.level_near) std::fill_n(row_.size(from), count, std::uint8_t{0});
        if (plan_.level_near || plan_.level_row) {
            for (const std::uint16_t place : places) value<true>(from + place, symbols[place]);
        } else {
            for (const std::uint16_t place : places) value<false>(from + place, symbols[place]);
        }
        return places;
    }

   private:
    Cell start() const { return Cell(static_cast<std::uint32_t>(plan_.density) << 6); }

    // How many are not zero; where is in places_. Without branches, as these bits cannot be guessed.
    std::size_t masks(std::size_t from, std::size_t count, const Symbol* symbols) {
        coder_.about(Part::mask);
        if (plan_.full) {
            for (std::size_t i = 0; i < count; ++i) places_[i] = static_cast<std::uint16_t>(i);
            return count;
        }
        if (plan_.mask_column || plan_.mask_row || plan_.mask_near) return mixed_masks(from, count, symbols);
        std::size_t kept = 0;
        for (std::size_t i = 0; i < count; ++i) {
            places_[kept] = static_cast<std::uint16_t>(i);
            kept += static_cast<std::size_t>(coder_.bit(plan_.density, !symbols[i].zero));
        }
        return kept;
    }

    std::size_t mixed_masks(std::size_t from, std::size_t count, const Symbol* symbols) {
        std::uint8_t* const here = row_.kept(from);
        const std::uint8_t* const back = here - row_.lag();
        const std::uint8_t* const twice = back - row_.lag();
        const bool lagged = row_.lag() > 0;
        unsigned last = here[-1] | here[-2] << 1 | here[-3] << 2;
        unsigned around = lagged ? back[0] | back[-1] << 1 : 0;
        std::size_t kept = 0;
        for (std::size_t i = 0; i < count; ++i) {
            if (lagged) around = (around << 1 | back[i + 1]) & 7;
            Cell* const column = plan_.mask_column ? &column_[from + i] : nullptr;
            Cell* const row = plan_.mask_row ? &along_ : nullptr;
            Cell* const near = plan_.mask_near ? &near_[last | around << 3 | (lagged ? twice[i] << 6 : 0)] : nullptr;
            masks_.offer(0, column, base_);
            masks_.offer(1, row, base_);
            masks_.offer(2, near, base_);
            const int bit = coder_.bit(masks_.probability(base_), !symbols[i].zero);
            masks_.learn(bit);
            if (column) column->learn(bit);
            if (row) row->learn(bit);
            if (near) near->learn(bit);
            here[i] = static_cast<std::uint8_t>(bit);
            last = (last << 1 | static_cast<unsigned>(bit)) & 7;
            places_[kept] = static_cast<std::uint16_t>(i);
            kept += static_cast<std::size_t>(bit);
        }
        return kept;
    }

    template <bool Mixed>
    void value(std::size_t col, Symbol& symbol) {
        if (plan_.sign_near) {
            coder_.about(Part::sign);
            Cell& cell = signs_[row_.signs(col)];
            symbol.negative = coder_.bit(cell.probability(), symbol.negative) != 0;
            cell.learn(symbol.negative);
            *row_.sign(col) = symbol.negative ? 1 : 2;
        }
        coder_.about(Part::level);
        symbol.level = level<Mixed>(col, symbol.level);
        if (plan_.level_near) *row_.size(col) = static_cast<std::uint8_t>(std::min(symbol.level, kUnary) + 1);
        const int plain = low_bits_ - modelled_;
        const std::uint32_t top = modelled_ > 0 ? top_bits(std::min(symbol.level, kUnary), symbol.low >> plain) : 0;
        std::uint32_t rest = symbol.low & ((1u << plain) - 1);
        if (plan_.sign_near) {
            rest = coder_.raw(plain, rest);
        } else {
            rest = coder_.raw(plain + 1, rest << 1 | (symbol.negative ? 1u : 0u));
            symbol.negative = (rest & 1) != 0;
            rest >>= 1;
        }
        symbol.low = top << plain | rest;
    }

    template <bool Mixed>
    std::uint32_t level(std::size_t col, std::uint32_t wanted) {
        std::size_t near = 0, along = 0;
        if constexpr (Mixed) {
            near = near_sizes(col);
            along = average_ == 0 ? 0 : from_pivot(average_ * 3 >> 8, 3, 7);
        }
        const std::uint32_t pivot = plan_.pivot;
        std::uint32_t level = pivot;
        if (pivot > 0 && !step<Mixed>(0, near, along, wanted >= pivot)) {
            --level;
            while (level > 0 && step<Mixed>(level, near, along, wanted < level)) --level;
        } else {
            while (level < kUnary && step<Mixed>(level, near, along, wanted > level)) ++level;
        }
        if constexpr (Mixed) {
            const int size = static_cast<int>(level + 1) << 8;
            average_ = average_ == 0 ? size : average_ + ((size - average_) >> 3);
        }
        return level < kUnary ? level : plain_level(wanted);
    }

    // 0 where the neighbours are all zero, else 1 to 15: twice their mean size, seen from the pivot.
    std::size_t near_sizes(std::size_t col) {
        if (!plan_.level_near) return 0;
        const auto [sum, count] = row_.sizes(col);
        return count == 0 ? 0 : from_pivot(2 * sum / count, 2, 8);
    }

    std::size_t from_pivot(int scaled, int scale, int middle) const {
        const int least = std::max(0, scale * (plan_.pivot + 1) - middle);
        return static_cast<std::size_t>(1 + std::clamp(scaled - least, 0, 14));
    }

    std::uint32_t plain_level(std::uint32_t wanted) {
        std::uint32_t level = 0;
        for (int i = 7; i >= 0; --i) {
            level = level << 1 | static_cast<std::uint32_t>(coder_.bit(kOne / 2, wanted >> i & 1));
        }
        return level;
    }

    // One decision about a level: whether it is the pivot or above (at 0), beyond `at` on its side of the pivot (else).
    template <bool Mixed>
    int step(std::uint32_t at, std::size_t near, std::size_t along, int bit) {
        Cell& plain = levels_[at];
        if constexpr (!Mixed) {
            bit = coder_.bit(plain.probability(), bit);
        } else {
            const int base = plain.stretched();
            Cell* const beside = plan_.level_near ? &level_near_[near][at] : nullptr;
            Cell* const before = plan_.level_row ? &level_row_[along][at] : nullptr;
            Mixer<2>& mixer = level_mixers_[at];
            mixer.offer(0, beside, base);
            mixer.offer(1, before, base);
            bit = coder_.bit(mixer.probability(base), bit);
            mixer.learn(bit);
            if (beside) beside->learn(bit);
            if (before) before->learn(bit);
        }
        plain.learn(bit);
        return bit;
    }

    std::uint32_t top_bits(std::size_t level, std::uint32_t wanted) {
        std::uint32_t node = 1;
        for (int i = modelled_ - 1; i >= 0; --i) {
            coder_.about(static_cast<Part>(static_cast<int>(Part::low0) + modelled_ - 1 - i));
            Cell& cell = tops_[level][node];
            const int bit = coder_.bit(cell.probability(), wanted >> i & 1);
            cell.learn(bit);
            node = node << 1 | static_cast<std::uint32_t>(bit);
        }
        return node - (1u << modelled_);
    }

    Coder& coder_;
    const Plan plan_;
    const int low_bits_, modelled_, base_;
    Row row_;
    std::array<std::uint16_t, kRun> places_;
    std::vector<Cell> column_;
    Cell along_;
    std::vector<Cell> near_, signs_;
    Mixer<3> masks_;
    int average_ = 0;  // of sizes along the row, in 1/256; 0: none yet
    Cell levels_[kUnary];
    Cell level_near_[16][kUnary], level_row_[16][kUnary];
    Mixer<2> level_mixers_[kUnary];
    Cell tops_[kUnary + 1][1 << kMostModelled];
};

}  // namespace secateur::codec
