"""Architectures that people use, by the library that they come from, with random weights: what benchmarks/zoo.py packs.

Each is a Case when it is built, which needs its library; what is small in a library is built as it is, of transformers
two layers of 64.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Given = tuple[Tensor, ...] | dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A network, and what it is called with for a number of images."""

    network: nn.Module
    example: Callable[[int], Given]


Build = Callable[[], Case]


def library(name: str) -> Any:
    """A module that need not be installed. Raises ImportError."""
    return importlib.import_module(name)


def images(*shape: int) -> Callable[[int], Given]:
    return lambda count: (torch.randn(count, *shape),)


def _torchvision(name: str, size: int = 224, **options: Any) -> Case:
    torchvision = library("torchvision")
    return Case(torchvision.models.get_model(name, weights=None, **options), images(3, size, size))


def _video(name: str, frames: int = 16, size: int = 112) -> Case:
    torchvision = library("torchvision")
    return Case(torchvision.models.get_model(name, weights=None), images(3, frames, size, size))


def _segmenting(name: str, **options: Any) -> Case:
    return _torchvision(name, 64, weights_backbone=None, num_classes=5, **options)


def _detecting(name: str, size: int) -> Case:
    """The part of a detector that is one function of an image: its backbone."""
    torchvision = library("torchvision")
    made = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    return Case(made.backbone, images(3, size, size))


def _raft() -> Case:
    torchvision = library("torchvision")
    network = torchvision.models.get_model("raft_small", weights=None)
    return Case(network, lambda count: (torch.randn(count, 3, 128, 128), torch.randn(count, 3, 128, 128)))


TORCHVISION: dict[str, Build] = {
    **{
        name: partial(_torchvision, name)
        for name in (
            *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "mnasnet0_5"),
            *("mnasnet1_3", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf"),
            *("regnet_y_400mf", "resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"),
            *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg16_bn"),
            *("vit_b_16", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t"),
        )
    },
    "googlenet": partial(_torchvision, "googlenet", aux_logits=False, init_weights=False),
    "inception_v3": partial(_torchvision, "inception_v3", 299, aux_logits=False, init_weights=False),
    **{name: partial(_video, name) for name in ("mc3_18", "r2plus1d_18", "r3d_18")},
    "s3d": partial(_video, "s3d", 16, 224),
    "swin3d_t": partial(_video, "swin3d_t", 8, 64),
    "mvit_v1_b": partial(_video, "mvit_v1_b", 16, 224),
    "mvit_v2_s": partial(_video, "mvit_v2_s", 16, 224),
    "fcn_resnet50": partial(_segmenting, "fcn_resnet50"),
    "deeplabv3_resnet50": partial(_segmenting, "deeplabv3_resnet50"),
    "deeplabv3_mobilenet_v3_large": partial(_segmenting, "deeplabv3_mobilenet_v3_large"),
    "lraspp_mobilenet_v3_large": partial(_segmenting, "lraspp_mobilenet_v3_large"),
    "fpn_resnet50": partial(_detecting, "fasterrcnn_resnet50_fpn", 128),
    "fpn_retinanet": partial(_detecting, "retinanet_resnet50_fpn_v2", 128),
    "ssdlite320_backbone": partial(_detecting, "ssdlite320_mobilenet_v3_large", 320),
    "ssd300_backbone": partial(_detecting, "ssd300_vgg16", 300),
    "raft_small": _raft,
}


def _timm(name: str) -> Case:
    timm = library("timm")
    network = timm.create_model(name, pretrained=False)
    return Case(network, images(*network.default_cfg["input_size"]))


TIMM: dict[str, Build] = {
    name: partial(_timm, name)
    for name in (
        *("convnext_atto", "convnextv2_atto", "cspdarknet53", "cspresnet50", "dla34", "dm_nfnet_f0", "dpn68"),
        *("efficientnet_b0", "ese_vovnet19b_dw", "fbnetc_100", "focalnet_tiny_srf", "gernet_s", "gmlp_s16_224"),
        *("hgnetv2_b0", "inception_next_atto", "inception_v4", "lcnet_050", "legacy_seresnext26_32x4d"),
        *("mixer_s32_224", "mixnet_s", "mobilenetv3_small_050", "mobilenetv4_conv_small", "mobileone_s0", "nfnet_l0"),
        *("regnetx_002", "regnety_004", "repghostnet_050", "repvgg_a0", "repvit_m0_9", "rexnet_100", "seresnet50"),
        *("skresnet18", "spnasnet_100", "starnet_s1", "tf_efficientnet_b0", "tinynet_a", "beit_base_patch16_224"),
        *("beitv2_base_patch16_224", "caformer_s18", "convformer_s18", "coat_tiny", "coat_lite_tiny"),
        *("coatnet_pico_rw_224", "deit_tiny_patch16_224", "deit3_small_patch16_224", "ecaresnet26t"),
        *("edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "efficientvit_b0", "efficientvit_m0"),
        *("fastvit_t8", "gcvit_xxtiny", "gcresnet50t", "ghostnet_100", "ghostnetv2_100", "halonet26t"),
        *("botnet26t_256", "lambda_resnet26t", "levit_128s", "maxvit_rmlp_pico_rw_256", "maxxvit_rmlp_nano_rw_256"),
        *("mobilenetv4_hybrid_medium", "mobilevit_xxs", "mobilevitv2_050", "mvitv2_tiny", "nest_tiny"),
        *("pit_ti_224", "poolformer_s12", "poolformerv2_s12", "pvt_v2_b0", "resmlp_12_224", "resnetv2_50"),
        *("res2net50_26w_4s", "resnest14d", "sequencer2d_s", "swin_tiny_patch4_window7_224"),
        *("swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "tf_efficientnet_cc_b0_4e", "tiny_vit_5m_224"),
        *("tnt_s_patch16_224", "twins_svt_small", "twins_pcpvt_small", "visformer_tiny", "xcit_nano_12_p16_224"),
        *("vit_base_patch16_siglip_224", "vit_small_patch14_dinov2", "vit_tiny_patch16_224", "volo_d1_224"),
        *("cait_xxs24_224", "crossvit_9_240", "convmixer_768_32", "davit_tiny", "eva02_tiny_patch14_224"),
        *(
            "hiera_tiny_224",
            "hrnet_w18_small",
            "vit_relpos_small_patch16_224",
            "vit_small_r26_s32_224",
            "wide_resnet50_2",
        ),
        *("xception41", "selecsls42b", "eca_nfnet_l0", "bat_resnext26ts", "hardcorenas_a", "resnet26t"),
        *("vitamin_small_224", "samvit_base_patch16_224", "rdnet_tiny", "test_vit", "aimv2_large_patch14_224"),
    )
}


def _transformer(model: str, config: str, given: Callable[[int], Given], **options: Any) -> Case:
    transformers = library("transformers")
    settings = getattr(transformers, config)(**options)
    return Case(getattr(transformers, model)(settings), given)


def _tokens(count: int) -> Given:
    return {
        "input_ids": torch.randint(3, 99, (count, 16)),
        "attention_mask": torch.cat([torch.ones(count, 12), torch.randint(0, 2, (count, 4))], 1).long(),
    }


def _ids(count: int) -> Given:
    return {"input_ids": torch.randint(3, 99, (count, 16))}


def _pixels(size: int, *more: int) -> Callable[[int], Given]:
    return lambda count: {"pixel_values": torch.randn(count, *more, 3, size, size)}


def _sound(length: int) -> Callable[[int], Given]:
    return lambda count: {"input_values": torch.randn(count, length)}


def _series(length: int, channels: int) -> Callable[[int], Given]:
    return lambda count: {"past_values": torch.randn(count, length, channels)}


_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_TEXT = {**_SMALL, "vocab_size": 99, "max_position_embeddings": 64}
_PLANE = {**_SMALL, "image_size": 64, "patch_size": 16}
_STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64]}
_CAUSAL = {**_TEXT, "num_key_value_heads": 2, "use_cache": False, "pad_token_id": 0}


def _both(count: int) -> Given:
    return {**_only(_tokens(count)), "decoder_input_ids": torch.randint(3, 99, (count, 8))}


def _only(given: Given) -> dict[str, Tensor]:
    assert isinstance(given, dict)
    return given


def _seen_and_read(count: int) -> Given:
    return {**_only(_tokens(count)), **_only(_pixels(64)(count))}


def _whispered(count: int) -> Given:
    return {"input_features": torch.randn(count, 80, 60), "decoder_input_ids": torch.randint(3, 99, (count, 8))}


_SEEN_AND_READ: dict[str, Any] = {
    "text_config": {**_TEXT, "eos_token_id": 98},
    "vision_config": _PLANE,
    "projection_dim": 32,
}

_TRANSFORMERS: dict[str, tuple[str, str, Callable[[int], Given], dict[str, Any]]] = {
    "convnext_cls": ("ConvNextForImageClassification", "ConvNextConfig", _pixels(64), _STAGES),
    "convnextv2_cls": ("ConvNextV2ForImageClassification", "ConvNextV2Config", _pixels(64), _STAGES),
    "mobilenet_v2_cls": ("MobileNetV2ForImageClassification", "MobileNetV2Config", _pixels(64), {}),
    "mobilenet_v1_cls": ("MobileNetV1ForImageClassification", "MobileNetV1Config", _pixels(64), {}),
    "regnet_cls": ("RegNetForImageClassification", "RegNetConfig", _pixels(64), {**_STAGES, "groups_width": 8}),
    "resnet_cls": ("ResNetForImageClassification", "ResNetConfig", _pixels(64), _STAGES),
    "bit_cls": (
        "BitForImageClassification",
        "BitConfig",
        _pixels(64),
        {"depths": [1, 1, 1, 1], "hidden_sizes": [128, 128, 256, 256], "embedding_size": 64},
    ),
    "beit_cls": (
        "BeitForImageClassification",
        "BeitConfig",
        _pixels(64),
        {**_PLANE, "use_relative_position_bias": True},
    ),
    "deit_cls": ("DeiTForImageClassification", "DeiTConfig", _pixels(64), _PLANE),
    "vit_cls": ("ViTForImageClassification", "ViTConfig", _pixels(64), _PLANE),
    "dinov2": ("Dinov2Model", "Dinov2Config", _pixels(64), _PLANE),
    "efficientnet_cls": (
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        _pixels(64),
        {"width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640},
    ),
    "levit_cls": ("LevitForImageClassification", "LevitConfig", _pixels(224), {}),
    "pvt_cls": (
        "PvtForImageClassification",
        "PvtConfig",
        _pixels(64),
        {"image_size": 64, "depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 80, 64]},
    ),
    "cvt_cls": (
        "CvtForImageClassification",
        "CvtConfig",
        _pixels(64),
        {},
    ),
    "poolformer_cls": ("PoolFormerForImageClassification", "PoolFormerConfig", _pixels(64), {**_STAGES}),
    "mobilevit_cls": (
        "MobileViTForImageClassification",
        "MobileViTConfig",
        _pixels(64),
        {"image_size": 64, "hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64]},
    ),
    "segformer_seg": (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        _pixels(64),
        {**_STAGES, "decoder_hidden_size": 64},
    ),
    "swin_cls": (
        "SwinForImageClassification",
        "SwinConfig",
        _pixels(64),
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
    ),
    "swinv2_cls": (
        "Swinv2ForImageClassification",
        "Swinv2Config",
        _pixels(64),
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
    ),
    "focalnet_cls": (
        "FocalNetForImageClassification",
        "FocalNetConfig",
        _pixels(64),
        {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1]},
    ),
    "dpt_depth": (
        "DPTForDepthEstimation",
        "DPTConfig",
        _pixels(64),
        {
            **_PLANE,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [16, 32, 48, 64],
            "fusion_hidden_size": 32,
            "is_hybrid": False,
        },
    ),
    "glpn_depth": (
        "GLPNForDepthEstimation",
        "GLPNConfig",
        _pixels(64),
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 80, 64]},
    ),
    "yolos": (
        "YolosForObjectDetection",
        "YolosConfig",
        _pixels(64),
        {**_PLANE, "image_size": [64, 64], "num_detection_tokens": 10},
    ),
    "clip_vision": ("CLIPVisionModel", "CLIPVisionConfig", _pixels(64), _PLANE),
    "clip_text": ("CLIPTextModel", "CLIPTextConfig", _tokens, {**_TEXT, "eos_token_id": 98}),
    "clip": ("CLIPModel", "CLIPConfig", _seen_and_read, _SEEN_AND_READ),
    "siglip_vision": ("SiglipVisionModel", "SiglipVisionConfig", _pixels(64), _PLANE),
    "detr": (
        "DetrForObjectDetection",
        "DetrConfig",
        _pixels(64),
        {
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_config": {"model_type": "resnet", "out_features": ["stage4"], **_STAGES},
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "num_queries": 10,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
        },
    ),
    "bert_seqcls": ("BertForSequenceClassification", "BertConfig", _tokens, _TEXT),
    "bert_mlm": ("BertForMaskedLM", "BertConfig", _tokens, _TEXT),
    "bert_from_embeddings": (
        "BertModel",
        "BertConfig",
        lambda count: {"inputs_embeds": torch.randn(count, 16, 64)},
        _TEXT,
    ),
    "roberta_seqcls": ("RobertaForSequenceClassification", "RobertaConfig", _tokens, {**_TEXT, "pad_token_id": 1}),
    "distilbert_seqcls": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        _tokens,
        {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 99},
    ),
    "electra_seqcls": (
        "ElectraForSequenceClassification",
        "ElectraConfig",
        _tokens,
        {**_TEXT, "embedding_size": 64},
    ),
    "albert_seqcls": ("AlbertForSequenceClassification", "AlbertConfig", _tokens, {**_TEXT, "embedding_size": 32}),
    "mpnet": ("MPNetModel", "MPNetConfig", _tokens, _TEXT),
    "deberta_v2": (
        "DebertaV2Model",
        "DebertaV2Config",
        _tokens,
        {**_TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "modernbert": (
        "ModernBertModel",
        "ModernBertConfig",
        _tokens,
        {**_TEXT, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "mobilebert": (
        "MobileBertModel",
        "MobileBertConfig",
        _tokens,
        {**_TEXT, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    ),
    "gpt2_lm": (
        "GPT2LMHeadModel",
        "GPT2Config",
        _tokens,
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 64, "use_cache": False},
    ),
    "gpt_neox_lm": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _tokens, {**_TEXT, "use_cache": False}),
    "opt_lm": (
        "OPTForCausalLM",
        "OPTConfig",
        _tokens,
        {**_TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64, "use_cache": False},
    ),
    "bloom_lm": (
        "BloomForCausalLM",
        "BloomConfig",
        _tokens,
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 99, "use_cache": False},
    ),
    "llama_lm": ("LlamaForCausalLM", "LlamaConfig", _tokens, _CAUSAL),
    "mistral_lm": ("MistralForCausalLM", "MistralConfig", _tokens, _CAUSAL),
    "qwen2_lm": ("Qwen2ForCausalLM", "Qwen2Config", _tokens, _CAUSAL),
    "gemma_lm": ("GemmaForCausalLM", "GemmaConfig", _tokens, {**_CAUSAL, "head_dim": 16}),
    "phi_lm": ("PhiForCausalLM", "PhiConfig", _tokens, _CAUSAL),
    "t5_encoder": (
        "T5EncoderModel",
        "T5Config",
        _tokens,
        {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 99},
    ),
    "t5_seq2seq": (
        "T5ForConditionalGeneration",
        "T5Config",
        _both,
        {
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 99,
            "use_cache": False,
        },
    ),
    "bart_seq2seq": (
        "BartForConditionalGeneration",
        "BartConfig",
        _both,
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "vocab_size": 99,
            "use_cache": False,
        },
    ),
    "whisper": (
        "WhisperModel",
        "WhisperConfig",
        _whispered,
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "max_source_positions": 30,
            "vocab_size": 99,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "use_cache": False,
        },
    ),
    "wav2vec2": (
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        _sound(4000),
        {**_SMALL, "conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    ),
    "ast_cls": (
        "ASTForAudioClassification",
        "ASTConfig",
        lambda count: {"input_values": torch.randn(count, 64, 32)},
        {**_SMALL, "max_length": 64, "num_mel_bins": 32},
    ),
    "patchtst": (
        "PatchTSTForPrediction",
        "PatchTSTConfig",
        _series(32, 3),
        {
            "d_model": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 128,
            "context_length": 32,
            "num_input_channels": 3,
            "patch_length": 8,
            "patch_stride": 8,
            "prediction_length": 8,
        },
    ),
    "patchtsmixer": (
        "PatchTSMixerForPrediction",
        "PatchTSMixerConfig",
        _series(32, 3),
        {
            "d_model": 16,
            "num_layers": 2,
            "context_length": 32,
            "num_input_channels": 3,
            "patch_length": 8,
            "patch_stride": 8,
            "prediction_length": 8,
        },
    ),
}

TRANSFORMERS: dict[str, Build] = {
    name: partial(_transformer, model, config, given, **options)
    for name, (model, config, given, options) in _TRANSFORMERS.items()
}


def _whisper_encoder() -> Case:
    model, config, _, options = _TRANSFORMERS["whisper"]
    case = _transformer(model, config, lambda count: {"input_features": torch.randn(count, 80, 60)}, **options)
    return Case(case.network.get_submodule("encoder"), case.example)


TRANSFORMERS["whisper_encoder"] = _whisper_encoder


def _yolo(file: str, task: str = "detect", **head: Any) -> Case:
    tasks = library("ultralytics.nn.tasks")
    kind = {
        "detect": "DetectionModel", "segment": "SegmentationModel", "pose": "PoseModel", "obb": "OBBModel",
        "classify": "ClassificationModel", "rtdetr": "RTDETRDetectionModel",
    }[task]  # fmt: skip
    network = getattr(tasks, kind)(f"{file}.yaml", verbose=False).eval()
    for name, value in head.items():
        setattr(network.model[-1], name, value)
    return Case(network, images(3, 64, 64))


class _Features(nn.Module):
    """A detector up to what its head makes of each scale."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        layers: Any = self.network.model
        layers[-1].training = True
        return self.network(x)


def _undecoded(file: str) -> Case:
    case = _yolo(file)
    return Case(_Features(case.network), case.example)


ULTRALYTICS: dict[str, Build] = {
    **{name: partial(_yolo, name) for name in ("yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov9t", "yolov10n")},
    **{name: partial(_yolo, name) for name in ("yolo11n", "yolo12n", "yolov8n-p2", "yolov8n-ghost")},
    **{
        f"{name}-{short}": partial(_yolo, f"{name}-{short}", task)
        for name in ("yolov8n", "yolo11n")
        for short, task in (("cls", "classify"), ("seg", "segment"), ("pose", "pose"), ("obb", "obb"))
    },
    "yolov8n(export mode)": partial(_yolo, "yolov8n", export=True, format="onnx", dynamic=True),
    "yolo11n(export mode)": partial(_yolo, "yolo11n", export=True, format="onnx", dynamic=True),
    "yolov8n(no box decoding)": partial(_undecoded, "yolov8n"),
    "rtdetr-resnet50": partial(_yolo, "rtdetr-resnet50", "rtdetr"),
    "rtdetr-l": partial(_yolo, "rtdetr-l", "rtdetr"),
}


def _smp(kind: str, encoder: str, size: int = 64) -> Case:
    smp = library("segmentation_models_pytorch")
    return Case(getattr(smp, kind)(encoder, encoder_weights=None), images(3, size, size))


SMP: dict[str, Build] = {
    "PAN_resnet18": partial(_smp, "PAN", "resnet18", 128),
    **{
        f"{kind}_{encoder}": partial(_smp, kind, encoder)
        for kind in (
            *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus"),
            *("UPerNet", "Segformer"),
        )
        for encoder in ("resnet18",)
    },
    **{
        f"Unet_{encoder}": partial(_smp, "Unet", encoder)
        for encoder in ("efficientnet-b0", "mit_b0", "timm-mobilenetv3_small_100", "vgg11_bn", "densenet121")
    },
}
