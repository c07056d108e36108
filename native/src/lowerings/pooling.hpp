// Pools of floats and of bytes alike.
#pragma once

#include "kernels.hpp"
#include "kinds.hpp"
#include "storage.hpp"

namespace secateur {

// All of a pool but for where the values lie and how many channels: in words.
PoolRun pool_run(const kind::Pool& pool, const Storage& input, const Storage& output, int images);
// How many words it looks at, of one image.
double pool_work(const PoolRun& run, const Storage& output);

}  // namespace secateur
