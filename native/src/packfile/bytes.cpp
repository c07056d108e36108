#include "bytes.hpp"

#include <algorithm>
#include <array>

#include "failure.hpp"
#include "platform.hpp"

namespace secateur::packfile {
namespace {

std::array<std::uint32_t, 256> checksum_table() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0u);
        table[byte] = value;
    }
    return table;
}

// ---- Deflate ----------------------------------------------------------------------------------------------------

constexpr int kLongest = 15;  // bits of a code

[[noreturn]] void refuse() { throw FormatError("its description cannot be decompressed"); }

// Bits of a stream, from the lowest of each byte on.
class Bits {
   public:
    explicit Bits(Bytes bytes) : bytes_(bytes) {}

    unsigned take(int count) {
        while (held_ < count) {
            if (next_ == bytes_.size()) refuse();
            window_ |= static_cast<std::uint32_t>(bytes_[next_++]) << held_;
            held_ += 8;
        }
        const unsigned found = window_ & ((1u << count) - 1);
        window_ >>= count, held_ -= count;
        return found;
    }

    void align() { window_ = 0, held_ = 0; }
    bool at_end() const { return next_ == bytes_.size(); }

   private:
    Bytes bytes_;
    std::size_t next_ = 0;
    std::uint32_t window_ = 0;
    int held_ = 0;  // below 8 between calls: what is left of the byte that was read last
};

// A canonical Huffman code, decoded a bit at a time: counts of lengths, and symbols in their order.
class Code {
   public:
    Code(const std::uint8_t* lengths, int count, bool may_be_incomplete) {
        for (int symbol = 0; symbol < count; ++symbol) ++counts_[lengths[symbol]];
        int left = 1;
        for (int length = 1; length <= kLongest; ++length) {
            left = 2 * left - counts_[length];
            if (left < 0) refuse();
        }
        // As zlib has it: an incomplete code is one of distances with one symbol, or none at all.
        const bool single = counts_[0] + counts_[1] == count;
        if (left > 0 && !(may_be_incomplete && single)) refuse();
        std::array<int, kLongest + 2> offsets{};
        for (int length = 1; length <= kLongest; ++length) offsets[length + 1] = offsets[length] + counts_[length];
        for (int symbol = 0; symbol < count; ++symbol)
            if (lengths[symbol] > 0) symbols_[offsets[lengths[symbol]]++] = static_cast<std::uint16_t>(symbol);
    }

    int read(Bits& bits) const {
        int code = 0, first = 0, index = 0;
        for (int length = 1; length <= kLongest; ++length) {
            code |= static_cast<int>(bits.take(1));
            if (code - counts_[length] < first) return symbols_[static_cast<std::size_t>(index + code - first)];
            index += counts_[length], first = 2 * (first + counts_[length]), code *= 2;
        }
        refuse();
    }

   private:
    std::array<int, kLongest + 1> counts_{};
    std::array<std::uint16_t, 288> symbols_{};
};

struct Codes {
    Code lengths, distances;
};

Codes fixed_codes() {
    std::array<std::uint8_t, 288> lengths;
    std::array<std::uint8_t, 32> distances;
    for (int i = 0; i < 288; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    distances.fill(5);
    return {Code(lengths.data(), 288, false), Code(distances.data(), 32, false)};
}

Codes read_codes(Bits& bits) {
    constexpr std::uint8_t kOrder[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const int count = 257 + static_cast<int>(bits.take(5)), distances = 1 + static_cast<int>(bits.take(5));
    const int given = 4 + static_cast<int>(bits.take(4));
    if (count > 286 || distances > 30) refuse();
    std::array<std::uint8_t, 320> lengths{};
    for (int i = 0; i < given; ++i) lengths[kOrder[i]] = static_cast<std::uint8_t>(bits.take(3));
    const Code code(lengths.data(), 19, false);
    lengths.fill(0);
    for (int at = 0; at < count + distances;) {
        const int symbol = code.read(bits);
        if (symbol < 16) {
            lengths[at++] = static_cast<std::uint8_t>(symbol);
            continue;
        }
        if (symbol == 16 && at == 0) refuse();
        const std::uint8_t repeated = symbol == 16 ? lengths[at - 1] : 0;
        const unsigned times = symbol == 16 ? 3 + bits.take(2) : symbol == 17 ? 3 + bits.take(3) : 11 + bits.take(7);
        if (at + static_cast<int>(times) > count + distances) refuse();
        std::fill_n(lengths.begin() + at, times, repeated);
        at += static_cast<int>(times);
    }
    if (lengths[256] == 0) refuse();
    return {Code(lengths.data(), count, true), Code(lengths.data() + count, distances, true)};
}

class Inflating {
   public:
    Inflating(Bytes bytes, std::string_view dictionary, std::size_t most)
        : bits_(bytes), made_(dictionary), before_(dictionary.size()), most_(most) {}

    std::string all() {
        for (bool last = false; !last;) {
            last = bits_.take(1) != 0;
            switch (bits_.take(2)) {
                case 0: copy_stored(); break;
                case 1: decode(fixed_codes()); break;
                case 2: decode(read_codes(bits_)); break;
                default: refuse();
            }
        }
        if (!bits_.at_end()) refuse_end();
        return made_.substr(before_);
    }

   private:
    [[noreturn]] void refuse_end() const {
        throw FormatError("its description does not end where it should, or is longer than " + std::to_string(most_) +
                          " bytes");
    }

    void put(char byte) {
        if (made_.size() - before_ == most_) refuse_end();
        made_.push_back(byte);
    }

    void copy_stored() {
        bits_.align();
        const unsigned length = bits_.take(16), inverted = bits_.take(16);
        if ((length ^ inverted) != 0xFFFF) refuse();
        for (unsigned i = 0; i < length; ++i) put(static_cast<char>(bits_.take(8)));
    }

    void decode(const Codes& codes) {
        for (;;) {
            const int symbol = codes.lengths.read(bits_);
            if (symbol == 256) return;
            if (symbol < 256) {
                put(static_cast<char>(symbol));
                continue;
            }
            const std::size_t length = length_of(symbol);  // its bits come first
            repeat(length, distance_of(codes.distances.read(bits_)));
        }
    }

    std::size_t length_of(int symbol) {
        constexpr std::uint16_t kBase[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
        constexpr std::uint8_t kExtra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                           2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
        if (symbol > 285) refuse();
        return kBase[symbol - 257] + bits_.take(kExtra[symbol - 257]);
    }

    std::size_t distance_of(int symbol) {
        if (symbol > 29) refuse();
        if (symbol < 4) return static_cast<std::size_t>(symbol) + 1;
        const int extra = symbol / 2 - 1;
        return ((std::size_t{2} + static_cast<std::size_t>(symbol % 2)) << extra) + 1 + bits_.take(extra);
    }

    void repeat(std::size_t length, std::size_t distance) {
        constexpr std::size_t kWindow = 1 << 15;
        if (distance > std::min(made_.size(), kWindow)) refuse();
        for (std::size_t i = 0; i < length; ++i) put(made_[made_.size() - distance]);
    }

    Bits bits_;
    std::string made_;
    const std::size_t before_, most_;
};

}  // namespace

Source Source::of_file(const std::string& path) {
    const platform::OpenFile opened = platform::open_regular(path);
    if (opened.file == nullptr) throw FileError(opened.wrong);
    Source source;
    source.file_.reset(opened.file), source.size_ = opened.size;
    return source;
}

Source Source::of_memory(Bytes bytes) {
    Source source;
    source.memory_ = bytes, source.size_ = bytes.size();
    return source;
}

std::vector<std::uint8_t> Source::read(std::uint64_t start, std::uint64_t size) const {
    if (start > size_ || size > size_ - start)
        throw FormatError("the file ends too early: it is cut short, get it again");
    if (file_ == nullptr) {
        const auto part = memory_.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(size));
        return {part.begin(), part.end()};
    }
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
    const bool whole =
        platform::seek(file_.get(), start) && std::fread(bytes.data(), 1, bytes.size(), file_.get()) == bytes.size();
    if (!whole) throw FormatError("the file ends too early: it is cut short, get it again");
    return bytes;
}

std::uint32_t checksum(Bytes bytes) {
    static const std::array<std::uint32_t, 256> table = checksum_table();
    std::uint32_t value = ~std::uint32_t{0};
    for (std::uint8_t byte : bytes) value = value >> 8 ^ table[(value ^ byte) & 0xFF];
    return ~value;
}

std::string inflate(Bytes bytes, std::string_view dictionary, std::size_t most) {
    return Inflating(bytes, dictionary, most).all();
}

}  // namespace secateur::packfile
