// JSON from strangers: no key twice, no NaN, no endless numbers or nesting; every value of the type expected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace secateur::packfile {

constexpr std::int64_t kMostSize = std::int64_t{1} << 40;
constexpr std::size_t kMostDimensions = 8;

class Json {
   public:
    using Field = std::pair<std::string, Json>;

    // Throws FormatError for anything that RFC 8259 or good sense does not allow, as all here.
    static Json parse(std::string_view text);

    bool is_null() const { return std::holds_alternative<std::monostate>(held_); }
    bool is_flag() const { return std::holds_alternative<bool>(held_); }
    bool is_whole() const { return std::holds_alternative<std::int64_t>(held_); }
    bool is_real() const { return std::holds_alternative<double>(held_); }
    bool is_text() const { return std::holds_alternative<std::string>(held_); }
    bool is_list() const { return std::holds_alternative<std::vector<Json>>(held_); }

    bool flag() const;
    double number() const;
    std::int64_t whole(std::int64_t most = kMostSize, std::int64_t least = 0) const;
    const std::string& text() const;
    std::vector<std::string> texts() const;
    const std::vector<Json>& items() const;
    const std::vector<Field>& fields() const;  // in their order
    // An object that has these keys, perhaps the optional ones, and no others.
    const Json& with_fields(std::initializer_list<std::string_view> names,
                            std::initializer_list<std::string_view> optional = {}) const;
    const Json* find(std::string_view key) const;  // null where it has none
    const Json& operator[](std::string_view key) const { return *find(key); }

   private:
    friend class JsonParser;

    [[noreturn]] void refuse(const std::string& expected) const;

    // Whole numbers beyond 64 bits are the farthest of these: they are allowed nowhere.
    std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<Json>, std::vector<Field>> held_;
};

// Sizes; their product, zeros left out, is bounded too, so that nothing that is computed with it overflows.
std::vector<std::int64_t> read_shape(const Json& value);

}  // namespace secateur::packfile
