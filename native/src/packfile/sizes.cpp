#include "sizes.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "failure.hpp"

namespace secateur::packfile {
namespace {

constexpr std::size_t kMostTerms = 12, kMostDepth = 8, kMostText = 512, kMostName = 63, kMostDigits = 13;
constexpr std::int64_t kMostFactor = std::int64_t{1} << 40;
constexpr std::string_view kDot = "·", kOpen = "⌊", kClose = "⌋";

void demand(bool holds, const char* expected) {
    if (!holds) throw GraphError(std::string("sizes with names: expected ") + expected);
}

std::vector<std::string> texts_of(const Size::Product& product) {
    std::vector<std::string> texts;
    for (const auto& each : product) texts.push_back(each.text);
    return texts;
}

bool same(const Size::Product& one, const Size::Product& other) {
    return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                      [](const auto& a, const auto& b) { return a.text == b.text; });
}

std::int64_t floor_over(std::int64_t value, std::int64_t divisor) {
    return value / divisor - (value % divisor < 0 ? 1 : 0);
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string written(const Size::Product& product, std::int64_t factor) {
    std::string text = factor != 1 || product.empty() ? std::to_string(factor) : "";
    for (const auto& each : product) text += (text.empty() ? "" : std::string(kDot)) + each.text;
    return text;
}

}  // namespace

std::int64_t sum_of(std::int64_t a, std::int64_t b) {
    std::int64_t result;
    if (__builtin_add_overflow(a, b, &result)) throw GraphError("a size of numbers beyond 64 bits");
    return result;
}

std::int64_t product_of(std::int64_t a, std::int64_t b) {
    std::int64_t result;
    if (__builtin_mul_overflow(a, b, &result)) throw GraphError("a size of numbers beyond 64 bits");
    return result;
}

Size Size::named(const std::string& name) {
    const bool good = !name.empty() && name.size() <= kMostName && is_letter(name[0]) &&
                      std::all_of(name.begin(), name.end(), [](char c) { return is_letter(c) || is_digit(c); });
    if (!good)
        throw GraphError("a size named " + quoted(name) + ": expected up to 63 letters, digits and _, no digit first");
    return sum({{{{name, nullptr}}, 1}});
}

std::int64_t Size::whole() const {
    if (!is_whole()) throw GraphError("a size of " + text() + ": expected a whole number");
    return whole_;
}

Size::Terms Size::terms() const {
    if (!is_whole()) return *terms_;
    return whole_ == 0 ? Terms{} : Terms{{{}, whole_}};
}

// Terms of one product are added; ordered by their products.
Size Size::sum(Terms terms) {
    std::map<std::vector<std::string>, Term> found;
    for (Term& each : terms) {
        const auto [place, first] = found.try_emplace(texts_of(each.product), each);
        if (!first) place->second.factor = sum_of(place->second.factor, each.factor);
    }
    Terms left;
    for (auto& [texts, term] : found)
        if (term.factor != 0) left.push_back(std::move(term));
    if (left.empty()) return 0;
    if (left.size() == 1 && left[0].product.empty()) return left[0].factor;
    demand(left.size() <= kMostTerms, "a size that is a sum of fewer products");
    for (const Term& each : left) {
        demand(each.factor >= -kMostFactor && each.factor <= kMostFactor, "a size of numbers up to 1099511627776");
        demand(each.product.size() <= kMostDepth, "a size that is a product of fewer lengths");
    }
    Size made;
    made.terms_ = std::make_shared<const Terms>(std::move(left));
    return made;
}

std::string Size::text() const {
    if (is_whole()) return std::to_string(whole_);
    Terms ordered = *terms_;  // sorted by products already: the number, which stands first there, goes last
    if (ordered[0].product.empty()) std::rotate(ordered.begin(), ordered.begin() + 1, ordered.end());
    std::string text;
    for (const auto& [product, factor] : ordered) {
        const bool first = text.empty();
        text += factor < 0 ? (first ? "-" : " - ") : (first ? "" : " + ");
        text += written(product, std::abs(factor));
    }
    return text;
}

void Size::names_into(std::set<std::string>& names) const {
    if (is_whole()) return;
    for (const auto& [product, factor] : *terms_)
        for (const Factor& each : product)
            if (each.floor == nullptr) names.insert(each.text);
            else each.floor->numerator.names_into(names);
}

std::optional<Size::Line> Size::line() const {
    std::optional<Line> found;
    std::int64_t more = 0;
    for (const auto& [product, factor] : terms()) {
        if (product.empty()) {
            more = factor;
            continue;
        }
        if (found || product.size() != 1 || product[0].floor != nullptr) return std::nullopt;
        found = Line{product[0].text, factor, 0};
    }
    if (found) found->more = more;
    return found;
}

std::int64_t Size::at(const Lengths& lengths) const {
    std::int64_t total = 0;
    for (const auto& [product, factor] : terms()) {
        std::int64_t value = factor;
        for (const Factor& each : product) {
            const std::int64_t part = each.floor == nullptr
                                          ? lengths.at(each.text)
                                          : floor_over(each.floor->numerator.at(lengths), each.floor->divisor);
            value = product_of(value, part);
        }
        total = sum_of(total, value);
    }
    return total;
}

Size Size::operator+(const Size& other) const {
    if (is_whole() && other.is_whole()) return sum_of(whole_, other.whole_);
    Terms all = terms();
    for (Term& each : other.terms()) all.push_back(std::move(each));
    return sum(std::move(all));
}

Size Size::operator-(const Size& other) const { return *this + other * Size(-1); }

Size Size::operator*(const Size& other) const {
    if (is_whole() && other.is_whole()) return product_of(whole_, other.whole_);
    const Terms left = terms(), right = other.terms();
    Terms all;
    for (const Term& a : left)
        for (const Term& b : right) {
            Term made{a.product, product_of(a.factor, b.factor)};
            made.product.insert(made.product.end(), b.product.begin(), b.product.end());
            std::sort(made.product.begin(), made.product.end(),
                      [](const Factor& x, const Factor& y) { return x.text < y.text; });
            all.push_back(std::move(made));
        }
    return sum(std::move(all));
}

Size Size::over(std::int64_t divisor) const {
    demand(divisor > 0, "a size to be divided by a whole number above 0");
    if (is_whole()) return floor_over(whole_, divisor);
    Terms whole, rest;
    for (const auto& [product, factor] : *terms_) {
        const std::int64_t part = floor_over(factor, divisor);
        whole.push_back({product, part}), rest.push_back({product, factor - part * divisor});
    }
    return sum(std::move(whole)) + fraction(sum(std::move(rest)), divisor);
}

// ⌊rest / divisor⌋ where every factor in rest is from 0 to divisor − 1.
Size Size::fraction(const Size& rest, std::int64_t divisor) {
    if (rest.is_whole()) return floor_over(rest.whole_, divisor);
    std::int64_t more = 0, common = divisor;
    const Term* inner = nullptr;
    std::size_t slopes = 0;
    for (const Term& each : *rest.terms_) {
        if (each.product.empty()) more = each.factor;
        else common = std::gcd(common, each.factor), inner = &each, ++slopes;
    }
    if (common > 1) {  // ⌊(g·x + b) / (g·d)⌋ = ⌊(x + ⌊b/g⌋) / d⌋
        Terms smaller;
        for (const auto& [product, factor] : *rest.terms_) smaller.push_back({product, floor_over(factor, common)});
        const Size made = sum(std::move(smaller));
        return divisor > common ? made.over(divisor / common) : made;
    }
    if (slopes == 1 && inner->product.size() == 1 && inner->product[0].floor != nullptr && inner->factor == 1) {
        const Floor& below = *inner->product[0].floor;  // ⌊(⌊x/a⌋ + b) / d⌋ = ⌊(x + a·b) / (a·d)⌋
        return (below.numerator + product_of(below.divisor, more)).over(product_of(below.divisor, divisor));
    }
    int depth = 0;
    for (const auto& [product, factor] : *rest.terms_)
        for (const Factor& each : product) depth = std::max(depth, each.floor == nullptr ? 0 : each.floor->depth);
    demand(depth + 1 <= static_cast<int>(kMostDepth), "a size with fewer divisions inside one another");
    const std::string inside = rest.text(), by = "/" + std::to_string(divisor) + std::string(kClose);
    const bool several = inside.find(' ') != inside.npos;
    Factor made{std::string(kOpen) + (several ? "(" + inside + ")" : inside) + by, nullptr};
    made.floor = std::make_shared<const Floor>(Floor{rest, divisor, depth + 1});
    return sum({{{std::move(made)}, 1}});
}

bool Size::operator==(const Size& other) const {
    if (is_whole() || other.is_whole()) return is_whole() && other.is_whole() && whole_ == other.whole_;
    return std::equal(terms_->begin(), terms_->end(), other.terms_->begin(), other.terms_->end(),
                      [](const Term& a, const Term& b) { return a.factor == b.factor && same(a.product, b.product); });
}

bool Size::at_least(const Size& least) const {
    const Size apart = *this - least;
    return !apart.is_whole() || apart.whole_ >= 0;
}

bool is_whole(const Shape& shape) {
    return std::all_of(shape.begin(), shape.end(), [](const Size& each) { return each.is_whole(); });
}

Size product_of(const Shape& shape) {
    Size product = 1;
    for (const Size& each : shape) product = product * each;
    return product;
}

std::string text_of(const Shape& shape) {
    std::string text;
    for (const Size& each : shape) text += (text.empty() ? "" : ", ") + each.text();
    return "(" + text + ")";
}

namespace {

class SizeParser {
   public:
    explicit SizeParser(const std::string& text) : text_(text) {
        check(!text.empty() && characters(text) <= kMostText);
        advance();
    }

    Size all() {
        const Size size = sum();
        check(next_.empty());
        return size;
    }

   private:
    static std::size_t characters(const std::string& text) {
        return static_cast<std::size_t>(std::count_if(
            text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
    }

    void check(bool holds) const {
        if (!holds)
            throw GraphError("a size written " + quoted(text_) +
                             ": expected one such as 2·length + 1 or ⌊(height + 3)/4⌋");
    }

    // The next name, number or mark; empty at the end.
    void advance() {
        while (at_ < text_.size() && (text_[at_] == ' ' || (text_[at_] >= '\t' && text_[at_] <= '\r'))) ++at_;
        std::size_t end = at_;
        if (at_ < text_.size() && is_letter(text_[at_])) {
            while (end < text_.size() && end - at_ < kMostName && (is_letter(text_[end]) || is_digit(text_[end])))
                ++end;
        } else if (at_ < text_.size() && is_digit(text_[at_])) {
            while (end < text_.size() && end - at_ < kMostDigits && is_digit(text_[end])) ++end;
        } else if (at_ < text_.size()) {
            end += mark();
        }
        next_ = text_.substr(at_, end - at_), at_ = end;
    }

    std::size_t mark() const {
        for (std::string_view each : {kDot, kOpen, kClose})
            if (std::string_view(text_).substr(at_, each.size()) == each) return each.size();
        check(std::string_view("-+*/()").find(text_[at_]) != std::string_view::npos);
        return 1;
    }

    std::string take() {
        std::string taken = next_;
        advance();
        return taken;
    }

    void expect(std::string_view token) {
        check(next_ == token);
        advance();
    }

    Size sum() {
        Size size = next_ == "-" ? signed_product() : product();
        while (next_ == "+" || next_ == "-") size = size + signed_product();
        return size;
    }

    Size signed_product() {
        const std::int64_t sign = take() == "-" ? -1 : 1;
        return product() * Size(sign);
    }

    Size product() {
        Size size = factor();
        while (next_ == kDot || next_ == "*") {
            advance();
            size = size * factor();
        }
        return size;
    }

    Size factor() {
        const std::string token = take();
        if (token == kOpen) return floor();
        check(!token.empty() && (is_letter(token[0]) || is_digit(token[0])));
        return is_digit(token[0]) ? Size(std::stoll(token)) : Size::named(token);
    }

    Size floor() {
        check(++depth_ <= static_cast<int>(kMostDepth));
        const bool several = next_ == "(";
        if (several) advance();
        const Size size = sum();
        if (several) expect(")");
        expect("/");
        const std::string divisor = take();
        check(!divisor.empty() && is_digit(divisor[0]) && std::stoll(divisor) > 0);
        expect(kClose);
        --depth_;
        return size.over(std::stoll(divisor));
    }

    const std::string& text_;
    std::size_t at_ = 0;
    std::string next_;
    int depth_ = 0;
};

}  // namespace

Size Size::parse(const std::string& text) { return SizeParser(text).all(); }

}  // namespace secateur::packfile
