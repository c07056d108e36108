"""Networks as people write them by hand, small, each with something of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from architectures import Build, Case, images
from torch import nn

from handwritten.parts import (
    Written,
    conv,
    correlated,
    encoder,
    fourier,
    gated,
    graph_convolution,
    linear_attention,
    mlp,
    pairs,
    pooled_attention,
    soft_experts,
    squeezed,
    standardised,
    statistics_pooling,
    time_distributed,
    transposed,
    upsampling,
)
from handwritten.planes import (
    CBAM,
    RRDB,
    Capsules,
    Convolved,
    Deformed,
    Frequencies,
    Generator,
    Moving,
    NonLocal,
    Residual,
    Siamese,
    UNet,
    VectorQuantiser,
    resnet,
)
from handwritten.sequences import (
    CRNN,
    Attention,
    ConvTasNet,
    Doubled,
    Flow,
    FTTransformer,
    Headed,
    Mixture,
    PointNet,
    Recurrent,
    Timed,
    WaveNet,
    tcn,
)

SERIES = images(24, 8)
TOKENS = images(16, 32)
PLANES = images(3, 32, 32)
NETWORKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "mlp": lambda: (mlp(16, 64, 64, 5), images(16)),
    "mlp_mish": lambda: (mlp(16, 64, 5, act=nn.Mish), images(16)),
    "mlp_selu_elu_softplus": lambda: (
        nn.Sequential(
            mlp(16, 32, 32, act=nn.SELU), nn.ELU(), mlp(32, 32, act=nn.Softplus), nn.Softplus(), nn.Linear(32, 4)
        ),
        images(16),
    ),
    "mlp_logsoftmax_output": lambda: (nn.Sequential(mlp(16, 64, 5), nn.LogSoftmax(1)), images(16)),
    "mlp_glu_celu_softsign": lambda: (
        nn.Sequential(
            nn.Linear(16, 64),
            nn.GLU(),
            nn.CELU(),
            nn.Linear(32, 32),
            nn.Softsign(),
            nn.Linear(32, 4),
            nn.Hardtanh(-2, 2),
        ),
        images(16),
    ),
    "mlp_softshrink_threshold": lambda: (
        nn.Sequential(
            nn.Linear(16, 32),
            nn.Softshrink(),
            nn.Linear(32, 32),
            nn.Threshold(0.1, 0.0),
            nn.Linear(32, 4),
            nn.LogSigmoid(),
        ),
        images(16),
    ),
    "swiglu": lambda: (Written(gated, nn.Linear(32, 64), nn.Linear(32, 64), nn.Linear(64, 32)), TOKENS),
    "resnet_groupnorm": lambda: (resnet(lambda channels: nn.GroupNorm(8, channels)), PLANES),
    "resnet_instancenorm": lambda: (resnet(lambda channels: nn.InstanceNorm2d(channels, affine=True)), PLANES),
    "resnet_rmsnorm_head": lambda: (nn.Sequential(resnet(nn.BatchNorm2d), nn.RMSNorm(10), nn.Linear(10, 5)), PLANES),
    "resnet_weight_standardised": lambda: (
        nn.Sequential(
            standardised(3, 16),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            standardised(16, 16),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        ),
        PLANES,
    ),
    "resnet_localresponse": lambda: (
        nn.Sequential(
            conv(3, 16),
            nn.LocalResponseNorm(5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            conv(16, 16),
            nn.Flatten(),
            nn.Linear(4096, 5),
        ),
        PLANES,
    ),
    "unet_transposed": lambda: (UNet(transposed), PLANES),
    "unet_instancenorm": lambda: (UNet(transposed, nn.InstanceNorm2d), PLANES),
    "unet_upsample_nearest": lambda: (UNet(upsampling()), PLANES),
    "unet_upsample_bilinear": lambda: (UNet(upsampling(mode="bilinear")), PLANES),
    "unet_upsample_bilinear_aligned": lambda: (UNet(upsampling(mode="bilinear", align_corners=True)), PLANES),
    "unet_upsample_bicubic": lambda: (UNet(upsampling(mode="bicubic")), PLANES),
    "unet_3d": lambda: (
        nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1),
            nn.InstanceNorm3d(8),
            nn.LeakyReLU(),
            nn.Conv3d(8, 16, 3, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose3d(16, 8, 2, 2),
            nn.ReLU(),
            nn.Conv3d(8, 2, 1),
        ),
        images(1, 8, 16, 16),
    ),
    "c3d": lambda: (
        nn.Sequential(
            nn.Conv3d(3, 16, 3, padding=1),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(32, 5),
        ),
        images(3, 8, 16, 16),
    ),
    "tcn": lambda: (tcn(), images(4, 32)),
    "tcn_weight_norm": lambda: (tcn(nn.utils.parametrizations.weight_norm), images(4, 32)),
    "wavenet": lambda: (WaveNet(), images(1, 128)),
    "conv_tasnet": lambda: (ConvTasNet(), images(1, 256)),
    "m5_raw_audio": lambda: (
        nn.Sequential(
            nn.Conv1d(1, 16, 80, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.Conv1d(16, 32, 3),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.AvgPool1d(2),
            nn.Flatten(),
            nn.Linear(96, 10),
            nn.LogSoftmax(1),
        ),
        images(1, 2000),
    ),
    "ecg_resnet1d": lambda: (
        nn.Sequential(
            nn.Conv1d(2, 16, 15, 2, 7),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.MaxPool1d(3, 2, 1),
            Residual(
                nn.Sequential(
                    nn.Conv1d(16, 16, 7, padding=3), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 16, 7, padding=3)
                )
            ),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        ),
        images(2, 200),
    ),
    "unet_1d": lambda: (
        nn.Sequential(
            nn.Conv1d(2, 16, 5, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose1d(16, 8, 5, 2, 2, output_padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="linear"),
            nn.Conv1d(8, 1, 1),
        ),
        images(2, 64),
    ),
    "hifigan_block": lambda: (
        nn.Sequential(
            nn.Conv1d(8, 32, 7, padding=3),
            nn.LeakyReLU(0.1),
            nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(32, 16, 16, 8, 4)),
            nn.LeakyReLU(0.1),
            nn.Conv1d(16, 1, 7, padding=3),
            nn.Tanh(),
        ),
        images(8, 16),
    ),
    "x_vector": lambda: (Written(statistics_pooling, nn.Conv1d(8, 32, 5, dilation=2), nn.Linear(64, 5)), images(8, 40)),
    "kws_dscnn": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 16, (10, 4), (2, 2), (4, 1)),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            conv(16, 16, groups=16),
            nn.Conv2d(16, 16, 1),
            nn.AvgPool2d((24, 5)),
            nn.Flatten(),
            nn.Linear(16, 12),
        ),
        images(1, 49, 10),
    ),
    "dcgan_generator": lambda: (
        nn.Sequential(
            nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 3, 4, 2, 1),
            nn.Tanh(),
        ),
        images(16, 1, 1),
    ),
    "dcgan_discriminator": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 32, 4, 2, 1),
            nn.BatchNorm2d(32),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 1, 8),
            nn.Sigmoid(),
        ),
        PLANES,
    ),
    "cyclegan_generator": lambda: (Generator(), PLANES),
    "esrgan_rrdb": lambda: (RRDB(), PLANES),
    "srcnn": lambda: (
        nn.Sequential(conv(1, 32, 9), nn.ReLU(), conv(32, 16, 1), nn.ReLU(), conv(16, 1, 5)),
        images(1, 24, 24),
    ),
    "espcn": lambda: (nn.Sequential(conv(1, 32, 5), nn.Tanh(), conv(32, 9), nn.PixelShuffle(3)), images(1, 24, 24)),
    "fsrcnn_prelu_deconv": lambda: (
        nn.Sequential(
            conv(1, 16, 5),
            nn.PReLU(16),
            nn.Conv2d(16, 8, 1),
            nn.PReLU(8),
            conv(8, 16),
            nn.PReLU(16),
            nn.ConvTranspose2d(16, 1, 9, 3, 4, output_padding=2),
        ),
        images(1, 16, 16),
    ),
    "vae_decoder": lambda: (
        nn.Sequential(
            nn.Linear(8, 512),
            nn.ReLU(),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 3, 2, 1, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 3, 2, 1, 1),
            nn.Sigmoid(),
        ),
        images(8),
    ),
    "vq_soft": lambda: (VectorQuantiser(), PLANES),
    "squeeze_excitation": lambda: (Written(squeezed, conv(3, 16), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)), PLANES),
    "cbam": lambda: (CBAM(), PLANES),
    "non_local": lambda: (NonLocal(), PLANES),
    "global_max_pool": lambda: (
        nn.Sequential(conv(3, 16), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
        PLANES,
    ),
    "conditional_convolution": lambda: (Convolved(), images(4, 8, 8)),
    "temporal_shift": lambda: (Moving(), images(4, 3, 16, 16)),
    "time_distributed_cnn": lambda: (
        Written(
            time_distributed,
            nn.Sequential(conv(3, 8, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 16)),
            nn.Linear(16, 5),
        ),
        images(4, 3, 16, 16),
    ),
    "spatial_transformer": lambda: (Deformed(), images(1, 16, 16)),
    "flow_correlation": lambda: (Written(correlated, conv(1, 8)), pairs((1, 12, 12), (1, 12, 12))),
    "capsules": lambda: (Capsules(), images(1, 28, 28)),
    "attention_by_hand": lambda: (nn.Sequential(Attention(), nn.LayerNorm(32), nn.Linear(32, 8)), TOKENS),
    "linear_attention": lambda: (Written(linear_attention, nn.Linear(32, 96)), TOKENS),
    "attention_pooling": lambda: (Written(pooled_attention, nn.Linear(32, 1), nn.Linear(32, 5)), TOKENS),
    "fourier_mixing": lambda: (Written(fourier, nn.Linear(32, 32), nn.Linear(32, 4)), TOKENS),
    "soft_mixture_of_experts": lambda: (
        Written(soft_experts, nn.Linear(32, 8, bias=False), *(mlp(32, 64, 32) for _ in range(4))),
        TOKENS,
    ),
    "mixture_of_experts": lambda: (Mixture(), images(16)),
    "nn_multihead_attention": lambda: (
        Written(lambda x, layer: layer(x, x, x, need_weights=False)[0], nn.MultiheadAttention(32, 4, batch_first=True)),
        TOKENS,
    ),
    "nn_multihead_attention_weights": lambda: (
        Written(lambda x, layer: layer(x, x, x), nn.MultiheadAttention(32, 4, batch_first=True)),
        TOKENS,
    ),
    "nn_transformer_encoder": lambda: (encoder(True), TOKENS),
    "nn_transformer_encoder_time_first": lambda: (
        Written(lambda x, net: net(x.transpose(0, 1)).mean(0), encoder(False)),
        TOKENS,
    ),
    "nn_transformer_seq2seq": lambda: (nn.Transformer(32, 4, 1, 1, 64, batch_first=True), pairs((12, 32), (6, 32))),
    "ft_transformer": lambda: (FTTransformer(), images(8)),
    "lstm_classifier": lambda: (Recurrent(nn.LSTM(8, 32, batch_first=True)), SERIES),
    "lstm_two_layers_both_ways": lambda: (Recurrent(nn.LSTM(8, 32, 2, batch_first=True, bidirectional=True)), SERIES),
    "lstm_time_first": lambda: (Recurrent(nn.LSTM(8, 32), first=False), SERIES),
    "gru_classifier": lambda: (Recurrent(nn.GRU(8, 32, batch_first=True)), SERIES),
    "gru_no_bias_both_ways": lambda: (
        Recurrent(nn.GRU(8, 32, batch_first=True, bias=False, bidirectional=True)),
        SERIES,
    ),
    "rnn_classifier": lambda: (Recurrent(nn.RNN(8, 32, batch_first=True, nonlinearity="relu")), SERIES),
    "crnn_ocr_ctc": lambda: (CRNN(), images(1, 32, 64)),
    "pointnet_vanilla": lambda: (
        nn.Sequential(
            nn.Conv1d(3, 32, 1),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Conv1d(32, 64, 1),
            Written(lambda x: torch.max(x, 2)[0]),
            nn.Linear(64, 5),
        ),
        images(3, 50),
    ),
    "pointnet_linear_amax": lambda: (
        Written(lambda x, net, head: head(net(x).amax(1)), mlp(3, 32, 64), nn.Linear(64, 5)),
        images(50, 3),
    ),
    "pointnet_transform": lambda: (PointNet(), images(3, 50)),
    "graph_convolution": lambda: (
        Written(graph_convolution, nn.Linear(8, 16), nn.Linear(16, 3)),
        pairs((10, 8), (10, 10)),
    ),
    "normalising_flow": lambda: (Flow(), images(8)),
    "nerf_positional_encoding": lambda: (Frequencies(), images(3)),
    "denoiser_told_the_time": lambda: (Timed(), pairs((3, 16, 16), ())),
    "siamese_cosine": lambda: (Siamese(), pairs((1, 16, 16), (1, 16, 16))),
    "siamese_none": lambda: (
        Written(
            lambda x, y, net: (net(x), None, net(y)),
            nn.Sequential(conv(1, 8), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 8)),
        ),
        pairs((1, 16, 16), (1, 16, 16)),
    ),
    "image_and_metadata": lambda: (
        Written(
            lambda x, more, net, head: head(torch.cat([net(x).mean((2, 3)), more], 1)), conv(3, 8), nn.Linear(12, 5)
        ),
        pairs((3, 16, 16), (4,)),
    ),
    "double_weights": lambda: (Doubled(), images(8)),
    "bilinear_fusion": lambda: (
        nn.Sequential(
            Written(lambda x, layer: layer(x[:, :8], x[:, 8:]), nn.Bilinear(8, 8, 16)), nn.ReLU(), nn.Linear(16, 4)
        ),
        images(16),
    ),
    "normalises_inside": lambda: (
        Written(
            lambda x, net: net(
                (x - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.2, 0.3]).view(1, 3, 1, 1)
            ),
            resnet(nn.BatchNorm2d),
        ),
        PLANES,
    ),
    "yolo_head_view_permute": lambda: (
        Written(
            lambda x, net: net(x).view(x.shape[0], 3, 7, 16, 16).permute(0, 1, 3, 4, 2).contiguous(),
            conv(3, 21, stride=2),
        ),
        PLANES,
    ),
    "dqn_dueling": lambda: (
        Written(
            lambda x, net, value, gain: value(net(x)) + gain(net(x)) - gain(net(x)).mean(1, keepdim=True),
            mlp(8, 32, 32),
            nn.Linear(32, 1),
            nn.Linear(32, 4),
        ),
        images(8),
    ),
    "heads_tuple": lambda: (Headed("tuple"), PLANES),
    "heads_dict": lambda: (Headed("dict"), PLANES),
    "heads_namedtuple": lambda: (Headed("named"), PLANES),
    "heads_none": lambda: (Headed("none"), PLANES),
    "heads_same": lambda: (Headed("same"), PLANES),
    "heads_nested": lambda: (Headed("nested"), PLANES),
    "heads_with_input": lambda: (Headed("input"), PLANES),
}


def _case(name: str) -> Build:
    return lambda: Case(*NETWORKS[name]())


HANDWRITTEN: dict[str, Build] = {name: _case(name) for name in NETWORKS}
