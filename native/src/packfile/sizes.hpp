// Sizes with names: a dimension is a whole number, or an expression of lengths that are known when a network is called.
// As network/sizes.py has them: two that are always equal are nearly always written the same way, and are then equal here.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace secateur::packfile {

using Lengths = std::map<std::string, std::int64_t>;

class Size {
   public:
    struct Floor;
    // A name, or a division rounded down. text: the one way to write it, by which factors are ordered and compared.
    struct Factor {
        std::string text;
        std::shared_ptr<const Floor> floor;  // null: a name
    };
    using Product = std::vector<Factor>;  // sorted
    struct Term {
        Product product;  // empty for the number in a sum
        std::int64_t factor;
    };
    // name · slope + more
    struct Line {
        std::string name;
        std::int64_t slope, more;
    };

    Size(std::int64_t whole = 0) : whole_(whole) {}
    // A length of that name. Throws GraphError where it is no name, or for an expression with too many terms, as all here.
    static Size named(const std::string& name);
    // What text() gives, read again; * may stand for ·.
    static Size parse(const std::string& text);

    bool is_whole() const { return terms_ == nullptr; }
    // Throws GraphError for an expression.
    std::int64_t whole() const;
    std::string text() const;
    void names_into(std::set<std::string>& names) const;
    std::optional<Line> line() const;
    // With lengths in place of all names.
    std::int64_t at(const Lengths& lengths) const;

    Size operator+(const Size& other) const;
    Size operator-(const Size& other) const;
    Size operator*(const Size& other) const;
    // Rounded down, by a whole number above 0.
    Size over(std::int64_t divisor) const;
    bool operator==(const Size& other) const;
    bool operator!=(const Size& other) const { return !(*this == other); }
    // Whether it is as large as another; where lengths decide about that, it may be, and is seen when they are known.
    bool at_least(const Size& least) const;

   private:
    using Terms = std::vector<Term>;

    static Size sum(Terms terms);
    static Size fraction(const Size& rest, std::int64_t divisor);
    Terms terms() const;

    std::int64_t whole_ = 0;
    std::shared_ptr<const Terms> terms_;
};

struct Size::Floor {
    Size numerator;
    std::int64_t divisor;
    int depth;
};

using Shape = std::vector<Size>;

bool is_whole(const Shape& shape);
Size product_of(const Shape& shape);
std::string text_of(const Shape& shape);  // "(3, height, 2·width + 1)"

// Of whole numbers. Throws GraphError for results beyond 64 bits.
std::int64_t sum_of(std::int64_t a, std::int64_t b);
std::int64_t product_of(std::int64_t a, std::int64_t b);

}  // namespace secateur::packfile
