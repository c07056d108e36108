// What a stranger's file may do at most, whatever it holds: be refused, or be opened and run.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "secateur.h"

namespace opened {

constexpr std::size_t kNumbers[] = {sizeof(float), sizeof(std::int64_t), sizeof(std::int32_t), sizeof(std::uint8_t)};

// Limits at which nothing takes long.
inline secateur_options small_options() {
    secateur_options options = secateur_defaults();
    options.weight_bytes = 1 << 22, options.nodes = 200, options.memory = 1 << 20, options.names = 1 << 16;
    options.multiply_adds = 1 << 20, options.window_elements = 1 << 20;
    return options;
}

inline std::vector<std::vector<std::uint8_t>> arrays(const secateur_model* model, std::size_t count,
                                                     const secateur_value* (*value)(const secateur_model*, std::size_t),
                                                     std::size_t images) {
    std::vector<std::vector<std::uint8_t>> made;
    for (std::size_t i = 0; i < count; ++i)
        made.emplace_back(value(model, i)->count * kNumbers[value(model, i)->element] * images + 1);
    return made;
}

inline void run(const secateur_model* model) {
    const std::int64_t images = secateur_images(model) > 0 ? secateur_images(model) : 2;
    if (images > 8) return;
    const auto count = static_cast<std::size_t>(images);
    auto inputs = arrays(model, secateur_input_count(model), secateur_input, count);
    auto outputs = arrays(model, secateur_output_count(model), secateur_output, count);
    std::vector<const void*> from;
    std::vector<void*> to;
    for (auto& each : inputs) from.push_back(each.data());
    for (auto& each : outputs) to.push_back(each.data());
    secateur_run(model, from.data(), to.data(), images);
}

// The status of opening it, and it was run where it could be.
inline secateur_status try_out(std::string_view bytes) {
    const secateur_options options = small_options();
    secateur_model* model;
    const secateur_status status = secateur_open_memory(bytes.data(), bytes.size(), &options, &model);
    if (status != SECATEUR_OK) return status;
    std::vector<std::int64_t> lengths;
    while (secateur_length(model, lengths.size()) != nullptr) lengths.push_back(lengths.size() % 2 == 0 ? 2 : 9);
    secateur_model* bound = nullptr;
    if (lengths.empty()) run(model);
    else if (secateur_bind(model, lengths.data(), lengths.size(), &bound) == SECATEUR_OK) run(bound);
    secateur_close(bound), secateur_close(model);
    return status;
}

}  // namespace opened
