#include "site.hpp"

namespace secateur {
namespace {

Planes planes_of(const Storage& s, int images) {
    if (s.folded)
        return {s.dims[0],
                s.part_height(),
                s.part_width(),
                s.strides[0],
                s.strides[1],
                s.strides[2],
                static_cast<int>(s.strides[2])};
    return {s.dims[0], s.dims[1], s.dims[2], s.strides[0], s.strides[1], s.strides[2], images};
}

}  // namespace

Site convolution_site(const kind::Convolution& layer, const Storage& input, const Storage& output, int images) {
    const auto& weight = layer.filter.weight.shape;
    const auto& bytes = layer.filter.bytes;
    const std::int64_t top = layer.padding[0], left = layer.padding[2];
    Site site{{input.dims[0], bytes ? bytes->outputs : weight[0], weight[2], weight[3], layer.stride[0],
               layer.stride[1], top, left, layer.dilation[0], layer.dilation[1], bytes ? bytes->groups : layer.groups},
              planes_of(input, images),
              planes_of(output, images)};
    if (!input.folded) return site;
    // What the taps of a part see, its border included, as an input of its own without padding.
    ConvolutionShape& shape = site.shape;
    site.input_offset = input.origin - top * input.strides[1] - left * input.strides[2];
    site.output_offset = output.origin;
    shape.top = shape.left = 0;
    site.input.height = (site.output.height - 1) * shape.stride_y + (shape.kernel_y - 1) * shape.dilation_y + 1;
    site.input.width = (site.output.width - 1) * shape.stride_x + (shape.kernel_x - 1) * shape.dilation_x + 1;
    return site;
}

std::optional<RowPlane> row_plane(const Storage& storage) {
    RowPlane plane{1, 1, 1};
    for (std::size_t axis = storage.dims.size() - 1; axis-- > 0;) {
        const std::int64_t size = storage.dims[axis], stride = storage.strides[axis];
        if (size == 1) continue;
        if (plane.height == 1 && stride == plane.width) plane.row = plane.width *= size;
        else if (plane.height == 1 && plane.width > 1 && stride > plane.width) plane.height = size, plane.row = stride;
        else if (plane.height > 1 && stride == plane.height * plane.row) plane.height *= size;
        else return {};
    }
    return plane;
}

Site linear_site(const Filter& filter, const Storage& input, const Storage& output, int images) {
    // Features are channels; what lies before them are pixels, in rows where the first axis may have gaps.
    const auto planes = [&](const Storage& s) {
        const std::int64_t features = s.dims.back();
        if (images == 1) {
            const RowPlane plane = row_plane(s).value();
            return Planes{features, plane.height, plane.width, s.strides.back(), plane.row, 1, 1};
        }
        if (s.dims.size() == 3)
            return Planes{features, s.dims[0], s.dims[1], s.strides[2], s.strides[0], s.strides[1], images};
        const std::int64_t rows = elements(Shape(s.dims.begin(), s.dims.end() - 1));
        return Planes{features, 1, rows, images, rows * features * images, features * images, images};
    };
    const std::int64_t channels = filter.bytes ? filter.bytes->channels : filter.weight.shape[1],
                       outputs = filter.bytes ? filter.bytes->outputs : filter.weight.shape[0];
    return {{channels, outputs, 1, 1, 1, 1, 0, 0, 1, 1, 1}, planes(input), planes(output)};
}

bool folds(const kind::Convolution& layer, const Storage& input, const Storage& output) {
    const auto axis = [](std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                         std::int64_t dilation, std::int64_t before) {
        return in == out * stride && before <= 1 && (out - 1) * stride + (kernel - 1) * dilation - before <= in;
    };
    const auto& weight = layer.filter.weight.shape;
    return axis(input.part_height(), output.part_height(), weight[2], layer.stride[0], layer.dilation[0],
                layer.padding[0]) &&
           axis(input.part_width(), output.part_width(), weight[3], layer.stride[1], layer.dilation[1],
                layer.padding[2]);
}

}  // namespace secateur
