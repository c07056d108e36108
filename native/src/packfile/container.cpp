#include "container.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "failure.hpp"
#include "json.hpp"

namespace secateur::packfile {
namespace {

constexpr std::string_view kMagic = "{\"__metadata__\":{\"secateur\":\"", kBehind = "\"},";
constexpr std::uint64_t kMostHeader = 16 << 20, kSeal = 4;
constexpr int kMajor = 1;

std::uint64_t little_endian(Bytes bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | bytes[i];
    return value;
}

bool is_digits(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Throws for another version than this reads.
void check_version(std::string_view version) {
    const std::size_t dot = version.find('.');
    const bool good = dot != version.npos && is_digits(version.substr(0, dot)) && is_digits(version.substr(dot + 1));
    if (!good) throw FormatError("its version cannot be read: the file is damaged, get it again");
    int major = 0;
    std::from_chars(version.data(), version.data() + dot, major);
    if (major != kMajor)
        throw FormatError("format version " + std::string(version.substr(0, dot)) + ", but this Secateur reads " +
                          std::to_string(kMajor) + ": use the Secateur that wrote the file");
}

// The header without its metadata: a JSON object of tensors.
std::string listing(std::string text) {
    const std::size_t space = text.find(' ', kMagic.size());
    const bool near = space != text.npos && space < kMagic.size() + 12;
    check_version(near ? std::string_view(text).substr(kMagic.size(), space - kMagic.size()) : std::string_view());
    const std::string given = text.substr(space + 1, 8);
    std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(space + 1), given.size(), '0');
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08x",
                  static_cast<unsigned>(checksum({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()})));
    if (given != digits || text.compare(space + 9, kBehind.size(), kBehind) != 0)
        throw FormatError("the header does not match its checksum: the file is damaged, get it again");
    return "{" + text.substr(space + 9 + kBehind.size());
}

std::vector<std::int64_t> wholes(const Json& value, std::size_t count) {
    std::vector<std::int64_t> found;
    for (const Json& each : value.items()) found.push_back(each.whole());
    if (found.size() != count) throw FormatError("its header has a list of another length than is expected");
    return found;
}

// Sections that follow each other from `start` to the end of the file without a gap.
std::map<std::string, Section> sections_in(const Json& listed, std::uint64_t start, std::uint64_t size) {
    std::map<std::string, Section> found;
    std::uint64_t at = start;
    for (const auto& [name, entry] : listed.fields()) {
        entry.with_fields({"dtype", "shape", "data_offsets"});
        const auto length = static_cast<std::uint64_t>(wholes(entry["shape"], 1)[0]);
        const auto offsets = wholes(entry["data_offsets"], 2);
        const bool fits = entry["dtype"].is_text() && entry["dtype"].text() == "U8" &&
                          static_cast<std::uint64_t>(offsets[0]) == at - start &&
                          static_cast<std::uint64_t>(offsets[1]) == at - start + length;
        if (!fits || length < kSeal || at + length > size)
            throw FormatError("tensor " + quoted(name) + " is not the next run of bytes in the file");
        found[name] = {at, length - kSeal};
        at += length;
    }
    if (at != size)
        throw FormatError(std::to_string(size) + " bytes, but its header describes " + std::to_string(at) +
                          ": it is cut short or something was added");
    return found;
}

}  // namespace

Container::Container(Source source) : source_(std::move(source)) {
    const std::uint64_t size = source_.size();
    if (size < 8) throw FormatError("not a .secateur file: " + std::to_string(size) + " bytes are too few");
    const std::uint64_t length = little_endian(source_.read(0, 8));
    if (as_text(source_.read(8, std::min<std::uint64_t>(kMagic.size(), size - 8))) != kMagic)
        throw FormatError("not a .secateur file: its first bytes are others; make one with: secateur pack");
    if (length > std::min(size - 8, kMostHeader))
        throw FormatError("a header of " + std::to_string(length) + " bytes in a file of " + std::to_string(size) +
                          ": it is cut short or damaged, get it again");
    const std::vector<std::uint8_t> header = source_.read(8, length);
    sections_ = sections_in(Json::parse(listing(std::string(as_text(header)))), 8 + length, size);
}

std::vector<std::uint8_t> Container::read(const Section& section) const {
    std::vector<std::uint8_t> content = source_.read(section.start, section.size);
    if (little_endian(source_.read(section.start + section.size, kSeal)) != checksum(content))
        throw FormatError("a checksum does not match: the file is damaged, get it again");
    return content;
}

}  // namespace secateur::packfile
