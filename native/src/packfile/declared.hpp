// Every operation as network/operations/table.py declares it: operations.inc is written by native/declare_operations.py.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace secateur::packfile {

struct Range {
    enum class Kind { kReal, kReals, kWhole, kWholes, kExtent, kExtents, kChoice, kFlag };
    Kind kind;
    double least = 0, above = 0, most = 0;  // of numbers; a whole one without a most has −1 there
    int length = -1;                        // of lists; −1: any
    std::vector<std::string_view> texts = {};
};

struct DeclaredWeight {
    std::string_view role;
    bool optional;
    std::vector<std::string_view> formats;
};

struct DeclaredAttribute {
    std::string_view name;
    Range range;
};

// What inputs and output hold: elements.py.
struct Elements {
    enum class Kind { kSame, kStated, kEach, kOfWeight };
    static constexpr std::string_view kNone = "-";

    Kind kind;
    std::vector<std::string_view> formats = {};              // same: those of all
    bool quantised = false;                                  // same: or integers that stand for others
    std::vector<std::string_view> prefixes = {};             // stated: of inputs, kNone where one is float32
    std::string_view output = kNone, beside = kNone;         // stated: prefixes. of a weight: output is its role
    std::vector<std::vector<std::string_view>> inputs = {};  // each: the formats of every input
    std::vector<int> alike = {};                             // each: inputs that hold the same
    int same_as = -1;                                        // each: the input that the output is like; else `output`,
                                                             // or, with neither, the attribute `element`
};

struct Declared {
    std::string_view name, rule, demands;
    int inputs, more;  // inputs −1: any number from 1 on
    Elements elements;
    std::vector<DeclaredWeight> weights;
    std::vector<DeclaredAttribute> attributes;
    int ordinary;             // −1: where all inputs are
    std::string_view matrix;  // its weight that is one
    int axis;                 // along which that sums

    const DeclaredAttribute* attribute(std::string_view name) const;
    const DeclaredWeight* weight(std::string_view role) const;
};

struct DeclaredFunction {
    std::string_view name, op;
    std::vector<std::string_view> parameters;
};

struct Format {
    std::string_view name;
    int bits, exponent, mantissa;
    bool weighs;
};

// Null where there is none.
const Declared* find_operation(std::string_view name);
const DeclaredFunction* find_function(std::string_view name);
const Format* find_format(std::string_view name);
bool is_keyword(std::string_view name);  // of Python

// The preset dictionary of a description's deflate stream.
extern const std::string_view kDictionary;

}  // namespace secateur::packfile
