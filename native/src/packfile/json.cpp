#include "json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "failure.hpp"
#include "platform.hpp"

namespace secateur::packfile {
namespace {

constexpr std::ptrdiff_t kMostParts =
    1 << 20;  // objects and lists, and commas: values take memory that bytes hardly show
constexpr std::size_t kMostDigits = 19;
constexpr int kDeepest = 128;  // lists and objects in each other; whatever is deeper than 40 is refused for what it is

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void check_parts(std::string_view text) {
    const auto count = [&](char mark) { return std::count(text.begin(), text.end(), mark); };
    if (count('{') + count('[') > kMostParts || count(',') > kMostParts)
        throw FormatError("its description has more than " + std::to_string(kMostParts) + " parts");
}

}  // namespace

class JsonParser {
   public:
    explicit JsonParser(std::string_view text) : text_(text) {}

    Json all() {
        Json found = value(0);
        skip();
        if (at_ != text_.size()) refuse("something behind its end");
        return found;
    }

   private:
    [[noreturn]] void refuse(const std::string& what) const {
        throw FormatError("its description is not JSON: " + what + " at byte " + std::to_string(at_));
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void skip() {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
            ++at_;
    }
    bool take(char mark) {
        skip();
        if (peek() != mark || at_ == text_.size()) return false;
        ++at_;
        return true;
    }
    bool take_word(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    Json value(int depth) {
        if (depth > kDeepest) throw FormatError("its description is nested too deeply");
        skip();
        Json found;
        if (peek() == '{') object(found, depth);
        else if (peek() == '[') list(found, depth);
        else if (peek() == '"') found.held_ = string();
        else if (peek() == '-' || is_digit(peek())) number(found);
        else if (take_word("true")) found.held_ = true;
        else if (take_word("false")) found.held_ = false;
        else if (!take_word("null")) refuse("no value");
        return found;
    }

    void object(Json& found, int depth) {
        auto& fields = found.held_.emplace<std::vector<Json::Field>>();
        std::unordered_set<std::string> seen;
        ++at_;
        if (take('}')) return;
        do {
            skip();
            if (peek() != '"') refuse("a key that is no text");
            std::string key = string();
            if (!seen.insert(key).second) throw FormatError("its description has the same key twice");
            if (!take(':')) refuse("a key without a value");
            fields.emplace_back(std::move(key), value(depth + 1));
        } while (take(','));
        if (!take('}')) refuse("an object without an end");
    }

    void list(Json& found, int depth) {
        auto& items = found.held_.emplace<std::vector<Json>>();
        ++at_;
        if (take(']')) return;
        do items.push_back(value(depth + 1));
        while (take(','));
        if (!take(']')) refuse("a list without an end");
    }

    void number(Json& found) {
        const std::size_t start = at_;
        if (peek() == '-') ++at_;
        if (!is_digit(peek())) refuse("no number");
        if (peek() == '0') ++at_;
        else digits();
        bool real = false;
        if (peek() == '.' && at_ + 1 < text_.size() && is_digit(text_[at_ + 1])) real = true, ++at_, digits();
        if ((peek() == 'e' || peek() == 'E') && exponent_follows()) real = true, digits();
        const std::string_view written = text_.substr(start, at_ - start);
        if (!real && written.size() > kMostDigits)
            throw FormatError("its description has a number of " + std::to_string(written.size()) + " digits");
        if (real) found.held_ = finite(written);
        else found.held_ = whole(written);
    }

    static double finite(std::string_view written) {
        const double value = platform::to_double(written);
        if (!std::isfinite(value)) throw FormatError("its description has a number beyond all bounds");
        return value;
    }

    static std::int64_t whole(std::string_view written) {
        using Limits = std::numeric_limits<std::int64_t>;
        std::int64_t value = 0;
        const auto error = std::from_chars(written.data(), written.data() + written.size(), value).ec;
        return error == std::errc() ? value : written[0] == '-' ? Limits::min() : Limits::max();
    }

    void digits() {
        while (is_digit(peek())) ++at_;
    }

    // Moves on to its digits, where there are some.
    bool exponent_follows() {
        std::size_t next = at_ + 1;
        if (next < text_.size() && (text_[next] == '+' || text_[next] == '-')) ++next;
        if (next >= text_.size() || !is_digit(text_[next])) return false;
        at_ = next;
        return true;
    }

    std::string string() {
        std::string found;
        for (++at_;;) {
            if (at_ == text_.size()) refuse("a text without an end");
            const char c = text_[at_];
            if (c == '"') break;
            if (static_cast<unsigned char>(c) < 0x20) refuse("a control character");
            if (c == '\\') escape(found);
            else if (static_cast<unsigned char>(c) < 0x80) found.push_back(c), ++at_;
            else character(found);
        }
        ++at_;
        return found;
    }

    // One of several bytes, in the only way to write it.
    void character(std::string& found) {
        const auto byte = [&](std::size_t i) {
            return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0u;
        };
        const unsigned first = byte(0);
        const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
        unsigned code = first & (0xFF >> (length + 1));
        bool good = first >= 0xC2 && first <= 0xF4;
        for (std::size_t i = 1; i < length; ++i)
            good = good && (byte(i) & 0xC0) == 0x80, code = code << 6 | (byte(i) & 0x3F);
        const unsigned least = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
        if (!good || code < least || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
            refuse("bytes that are no UTF-8");
        found += text_.substr(at_, length), at_ += length;
    }

    void escape(std::string& found) {
        constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
        ++at_;
        if (const auto place = kNames.find(peek()); at_ < text_.size() && place != kNames.npos) {
            found.push_back(kMeanings[place]), ++at_;
            return;
        }
        if (peek() != 'u') refuse("an escape that is none");
        unsigned code = sixteen_bits();
        if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
            const std::size_t here = at_;
            ++at_;
            if (const unsigned low = sixteen_bits(); low >= 0xDC00 && low < 0xE000)
                code = 0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00);
            else at_ = here;
        }
        if (code >= 0xD800 && code < 0xE000)
            throw FormatError("its description has a text with half a character in it");
        append(found, code);
    }

    // Of "uXXXX".
    unsigned sixteen_bits() {
        const std::string_view written = text_.substr(std::min(text_.size(), at_ + 1), 4);
        unsigned code = 0;
        const auto end = std::from_chars(written.data(), written.data() + written.size(), code, 16).ptr;
        if (written.size() != 4 || end != written.data() + 4) refuse("an escape that is none");
        at_ += 5;
        return code;
    }

    static void append(std::string& found, unsigned code) {
        const auto put = [&](unsigned byte) { found.push_back(static_cast<char>(byte)); };
        if (code < 0x80) return put(code);
        if (code < 0x800) return put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
        if (code < 0x10000) put(0xE0 | code >> 12);
        else put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F));
        put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

Json Json::parse(std::string_view text) {
    check_parts(text);
    return JsonParser(text).all();
}

void Json::refuse(const std::string& expected) const {
    static const char* const kNames[] = {"null", "true or false", "", "a number", "a text", "a list", "an object"};
    const std::string came = is_whole() ? std::to_string(std::get<std::int64_t>(held_)) : kNames[held_.index()];
    throw FormatError("its description has " + came + " where " + expected + " is expected");
}

bool Json::flag() const {
    if (!is_flag()) refuse("true or false");
    return std::get<bool>(held_);
}

double Json::number() const {
    if (is_whole()) return static_cast<double>(std::get<std::int64_t>(held_));
    if (!is_real()) refuse("a number");
    return std::get<double>(held_);
}

std::int64_t Json::whole(std::int64_t most, std::int64_t least) const {
    const auto* value = std::get_if<std::int64_t>(&held_);
    if (value == nullptr || *value < least || *value > most)
        refuse("a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return *value;
}

const std::string& Json::text() const {
    if (!is_text()) refuse("a text");
    return std::get<std::string>(held_);
}

std::vector<std::string> Json::texts() const {
    std::vector<std::string> found;
    for (const Json& each : items()) found.push_back(each.text());
    return found;
}

const std::vector<Json>& Json::items() const {
    if (!is_list()) refuse("a list");
    return std::get<std::vector<Json>>(held_);
}

const std::vector<Json::Field>& Json::fields() const {
    const auto* found = std::get_if<std::vector<Field>>(&held_);
    if (found == nullptr) refuse("an object");
    return *found;
}

const Json& Json::with_fields(std::initializer_list<std::string_view> names,
                              std::initializer_list<std::string_view> optional) const {
    const auto among = [](std::string_view key, std::initializer_list<std::string_view> keys) {
        return std::find(keys.begin(), keys.end(), key) != keys.end();
    };
    std::size_t found = 0;
    for (const auto& [key, value] : fields()) {
        if (among(key, names)) ++found;
        else if (!among(key, optional))
            throw FormatError("its description has the key " + quoted(key) + ": expected none such");
    }
    if (found == names.size()) return *this;
    std::string expected;
    for (std::string_view name : names) expected += (expected.empty() ? "" : ", ") + std::string(name);
    throw FormatError("its description has an object without one of the keys " + expected);
}

const Json* Json::find(std::string_view key) const {
    for (const auto& [name, value] : fields())
        if (name == key) return &value;
    return nullptr;
}

std::vector<std::int64_t> read_shape(const Json& value) {
    std::vector<std::int64_t> found;
    for (const Json& each : value.items()) found.push_back(each.whole());
    if (found.size() > kMostDimensions)
        throw FormatError("its description has " + std::to_string(found.size()) +
                          " sizes where at most 8 are expected");
    std::int64_t product = 1;
    for (std::int64_t size : found) {
        if (size > kMostSize / product)
            throw FormatError("its description has a shape larger than anything that could be meant");
        product *= std::max<std::int64_t>(size, 1);
    }
    return found;
}

}  // namespace secateur::packfile
