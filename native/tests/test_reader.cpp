// Files from strangers, through the C interface and under the sanitizers.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>

#include "check.hpp"
#include "files.hpp"
#include "opened.hpp"
#include "packfile/container.hpp"
#include "packfile/declared.hpp"
#include "packfile/sizes.hpp"

namespace {

using namespace secateur::packfile;

struct Golden {
    std::string bytes, description, pool;
};

// A file, and what is in it, in the format's own parts.
Golden golden_of(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    Golden golden{{std::istreambuf_iterator<char>(stream), {}}, {}, {}};
    const Container held(Source::of_memory(files::bytes_of(golden.bytes)));
    golden.description = inflate(held.read(held.sections().at("secateur.graph")), kDictionary, 1 << 20);
    if (const auto pool = held.sections().find("secateur.pool"); pool != held.sections().end())
        golden.pool = golden.bytes.substr(pool->second.start, pool->second.size + 4);
    return golden;
}

const std::vector<Golden>& goldens() {
    static const std::vector<Golden> all = [] {
        std::vector<std::filesystem::path> paths;
        for (const auto& each : std::filesystem::directory_iterator(SECATEUR_GOLDEN))
            if (each.path().extension() == ".secateur") paths.push_back(each.path());
        std::sort(paths.begin(), paths.end());
        std::vector<Golden> found;
        for (const auto& each : paths) found.push_back(golden_of(each));
        return found;
    }();
    return all;
}

bool is_refused(std::string_view bytes) { return opened::try_out(bytes) != SECATEUR_OK; }

// Where a number, a text or a word of a description begins and ends.
std::vector<std::pair<std::size_t, std::size_t>> tokens_of(const std::string& text) {
    std::vector<std::pair<std::size_t, std::size_t>> found;
    for (std::size_t at = 0; at < text.size();) {
        std::size_t end = text[at] == '"' ? text.find('"', at + 1) + 1 : text.find_first_of(",:[]{}\"", at);
        end = std::max(at + 1, std::min(end, text.size()));
        found.emplace_back(at, end), at = end;
    }
    return found;
}

std::string mutated(std::string text, std::mt19937& random) {
    static const std::vector<std::string> kOthers = {
        "0",    "1",    "-1",    "2",         "7",          "256", "4096",  "16777216", "1099511627776", "0.5", "1e300",
        "true", "null", "\"x\"", "\"batch\"", "\"length\"", "[]",  "[1,2]", "{}"};
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes) {
        const auto tokens = tokens_of(text);
        const auto [at, end] = tokens[random() % tokens.size()];
        const auto [other, other_end] = tokens[random() % tokens.size()];
        const std::string put =
            random() % 2 ? kOthers[random() % kOthers.size()] : text.substr(other, other_end - other);
        text = text.substr(0, at) + (random() % 8 == 0 ? "" : put) + text.substr(end);
    }
    return text;
}

}  // namespace

TEST(files_of_every_version_are_opened_and_run) {
    CHECK(goldens().size() >= 10);
    for (const Golden& each : goldens()) {
        CHECK(!is_refused(each.bytes));
        CHECK(!is_refused(files::described(each.description, each.pool)) || each.pool.empty());
    }
}

TEST(every_truncation_and_flipped_bit_is_refused) {
    const std::string& bytes = goldens().front().bytes;
    for (std::size_t size = 0; size < bytes.size(); ++size) CHECK(is_refused(std::string_view(bytes).substr(0, size)));
    for (std::size_t bit = 0; bit < 8 * bytes.size(); bit += 3) {
        std::string flipped = bytes;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
        CHECK(is_refused(flipped));
    }
}

TEST(descriptions_that_lie_are_refused_or_run) {
    std::mt19937 random(1);
    int refused = 0;
    for (int i = 0; i < 6000; ++i) {
        const Golden& golden = goldens()[random() % goldens().size()];
        if (is_refused(files::described(mutated(golden.description, random), golden.pool))) ++refused;
    }
    CHECK(refused > 3000 && refused < 6000);
}

TEST(weights_of_noise_are_refused_or_read) {
    std::mt19937 random(2);
    const std::string node =
        R"("nodes":[{"name":"c","op":"constant","inputs":[],"weights":{"value":"w"},"shape":[4,10]}],)";
    const std::vector<std::string> kFormats = {"float32", "float16", "bfloat16", "int8", "int32", "int64", "bool"};
    for (int i = 0; i < 6000; ++i) {
        std::string content(random() % 80, '\0');
        for (char& each : content) each = static_cast<char>(random());
        const std::string head = {0, 100, 0, 0, 0, 0, 0, static_cast<char>(128)};
        if (i % 2 == 0) content = head + content;
        if (i % 3 == 0) content = std::string(1, static_cast<char>(random() % 4)) + content;
        const std::string text = R"({"producer":"","inputs":{"x":[1]},"outputs":["c"],)" + node +
                                 R"("weights":[{"name":"w","dtype":")" + kFormats[random() % kFormats.size()] +
                                 R"(","shape":[4,10],"codec":)" + std::to_string(random() % 3) + R"(,"bytes":)" +
                                 std::to_string(content.size()) + "}]}";
        opened::try_out(files::described(text, files::sealed(content)));
    }
}

TEST(sizes_with_names_are_written_in_one_way) {
    for (const char* text :
         {"length", "2·length + 1", "⌊(height + 3)/4⌋", "a·b - 2·c", "⌊length/2⌋·⌊width/3⌋ + 7", "-a + 1"})
        CHECK(Size::parse(text).text() == text);
    CHECK(Size::parse("2 * length + length").text() == "3·length");
    CHECK(Size::parse("⌊⌊x/2⌋/3⌋").text() == "⌊x/6⌋");
    CHECK(Size::parse("⌊(2·x + 1)/4⌋").text() == "⌊x/2⌋");
    CHECK(Size::parse("⌊(5·x + 3)/4⌋") == Size::parse("x + ⌊(x + 3)/4⌋"));
    CHECK(Size::parse("⌊(7 - x)/4⌋").at({{"x", 20}}) == -4);
    CHECK((Size::parse("x + 1") - Size::parse("x")) == Size(1));
}
