#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "memory.hpp"
#include "secateur/watch.hpp"

namespace {

using secateur::Stretch;

std::vector<std::byte> noise(std::size_t bytes) {
    std::mt19937 random(1);
    std::vector<std::byte> made(bytes);
    for (auto& each : made) each = static_cast<std::byte>(random());
    return made;
}

std::uint64_t fingerprint_of(const std::vector<std::byte>& bytes) {
    const Stretch whole{bytes.data(), bytes.size()};
    return secateur::fingerprint({&whole, 1});
}

}  // namespace

TEST(every_single_bit_shows_in_the_fingerprint) {
    for (std::size_t bytes : {1, 7, 8, 63, 64, 65, 200}) {
        auto held = noise(bytes);
        const auto before = fingerprint_of(held);
        for (std::size_t bit = 0; bit < 8 * bytes; ++bit) {
            held[bit / 8] ^= std::byte{1} << (bit % 8);
            CHECK(fingerprint_of(held) != before);
            held[bit / 8] ^= std::byte{1} << (bit % 8);
        }
        CHECK(fingerprint_of(held) == before);
    }
}

TEST(changes_that_a_sum_would_miss_show_in_the_fingerprint) {
    std::vector<double> numbers(256);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i) - 100.5;
    const auto print = [&] {
        const Stretch whole{reinterpret_cast<const std::byte*>(numbers.data()), numbers.size() * sizeof(double)};
        return secateur::fingerprint({&whole, 1});
    };
    const auto before = print();
    for (double& each : numbers) each = -each;  // every highest bit
    CHECK(print() != before);
    for (double& each : numbers) each = -each;
    CHECK(print() == before);
    for (std::size_t apart : {1, 8, 64}) {
        std::swap(numbers[5], numbers[5 + apart]);
        CHECK(print() != before);
        std::swap(numbers[5], numbers[5 + apart]);
    }
}

TEST(where_a_stretch_ends_shows_in_the_fingerprint) {
    const auto held = noise(64);
    const Stretch one[] = {{held.data(), 64}}, two[] = {{held.data(), 32}, {held.data() + 32, 32}};
    CHECK(secateur::fingerprint(one) != secateur::fingerprint(two));
    std::vector<std::byte> zeros(3);
    CHECK(fingerprint_of(zeros) != fingerprint_of(std::vector<std::byte>(4)));
}

TEST(a_write_anywhere_is_noticed_and_a_rewrite_of_the_same_is_none) {
    auto held = noise(300'000);
    for (std::size_t place : {std::size_t{0}, std::size_t{4096}, std::size_t{150'001}, held.size() - 1}) {
        secateur::Watch watch({{held.data(), held.size()}}, {});
        CHECK(!watch.changed());
        const auto was = held[place];
        held[place] = was;
        CHECK(!watch.changed());
        held[place] ^= std::byte{4};
        CHECK(watch.changed());
        held[place] = was;
        CHECK(watch.changed());  // once changed, changed
    }
}

TEST(marks_that_one_watch_clears_are_not_lost_to_another) {
    auto held = noise(300'000);
    secateur::Watch first({{held.data(), held.size()}}, {});
    held[100'000] ^= std::byte{1};
    secateur::Watch second({{held.data(), held.size()}}, {});
    CHECK(!second.changed());
    CHECK(first.changed());
    held[200'000] ^= std::byte{1};
    secateur::Watch part({{held.data() + 1000, 200'000}}, {});
    CHECK(second.changed());
    CHECK(!part.changed());
}

TEST(memory_given_back_and_taken_again_is_read_again) {
    for (int round = 0; round < 3; ++round) {
        auto memory = secateur::make_words(1 << 16);
        const Stretch all{reinterpret_cast<const std::byte*>(memory.get()), std::size_t{4} << 16};
        secateur::Watch watch({all}, {});
        CHECK(!watch.changed());
        memory[1 << 15] = {1};
        CHECK(watch.changed());
    }
}

TEST(unmarked_memory_is_read_every_time) {
    auto held = noise(300'000);
    secateur::Watch watch({}, {{held.data(), held.size()}});
    CHECK(watch.marked() == 0);
    CHECK(!watch.changed());
    held[150'000] ^= std::byte{1};
    CHECK(watch.changed());
}

TEST(several_threads_may_ask_at_once) {
    auto held = noise(300'000);
    secateur::Watch watch({{held.data(), held.size()}}, {});
    held[150'000] ^= std::byte{1};
    std::vector<int> found(4);
    std::vector<std::thread> threads;
    for (int& each : found) threads.emplace_back([&] { each = watch.changed(); });
    for (auto& each : threads) each.join();
    for (int each : found) CHECK(each == 1);
}
