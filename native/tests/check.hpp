// What the native tests need of a framework: cases that register themselves, and checks that say where they failed.
#pragma once

#include <cstdio>
#include <string_view>
#include <vector>

namespace check {

struct Case {
    std::string_view name;
    void (*body)();
};

inline std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Register {
    Register(std::string_view name, void (*body)()) { cases().push_back({name, body}); }
};

inline void that(bool holds, const char* claim, const char* file, int line) {
    if (holds) return;
    ++failures();
    std::fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, claim);
}

}  // namespace check

#define TEST(name)                                               \
    static void name();                                          \
    static const check::Register name##_registered(#name, name); \
    static void name()
#define CHECK(claim) check::that((claim), #claim, __FILE__, __LINE__)
