// A kernel as others see it: its own tiles, products and costs, and the loops that all share. Included last.

template <int Variants, int Products>
constexpr Kernels table(const char* name, const Cycles& cycles, const Costs& costs,
                        const TileVariant (&variants)[Variants], const WinogradProduct (&products)[Products]) {
    return {name,
            kLanes,
            cycles,
            costs,
            variants,
            Variants,
            kTransforms,
            sizeof kTransforms / sizeof *kTransforms,
            products,
            Products,
            pack_pixels,
            pack_rows,
            sparse_vector<FloatProduct>,
            dense_vector<FloatProduct>,
            transpose,
            kUnaries,
            sizeof kUnaries / sizeof *kUnaries,
            kBinaries,
            sizeof kBinaries / sizeof *kBinaries,
            pool,
            affine,
            fill_border,
            nullptr};
}
