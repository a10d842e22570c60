"""The list: names, sizes of inputs, and parameters in millions. Data only.

Inputs are as small as a network allows and still has more than one position at its last feature map, where it can.
"""

from __future__ import annotations

from typing import Any

from deploy.studies.coverage.rows import ListedNetwork

__all__ = ["SETS", "entries"]

_CLASSIFICATION: tuple[tuple[str, int, float], ...] = (
    ("squeezenet1_0", 64, 1.2),
    ("squeezenet1_1", 64, 1.2),
    ("shufflenet_v2_x0_5", 64, 1.4),
    ("mnasnet0_5", 64, 2.2),
    ("shufflenet_v2_x1_0", 64, 2.3),
    ("mobilenet_v3_small", 64, 2.5),
    ("mnasnet0_75", 64, 3.2),
    ("mobilenet_v2", 64, 3.5),
    ("shufflenet_v2_x1_5", 64, 3.5),
    ("regnet_y_400mf", 64, 4.3),
    ("mnasnet1_0", 64, 4.4),
    ("efficientnet_b0", 64, 5.3),
    ("mobilenet_v3_large", 64, 5.5),
    ("regnet_x_400mf", 64, 5.5),
    ("mnasnet1_3", 64, 6.3),
    ("regnet_y_800mf", 64, 6.4),
    ("googlenet", 64, 6.6),
    ("regnet_x_800mf", 64, 7.3),
    ("shufflenet_v2_x2_0", 64, 7.4),
    ("efficientnet_b1", 64, 7.8),
    ("densenet121", 64, 8.0),
    ("efficientnet_b2", 64, 9.1),
    ("regnet_x_1_6gf", 64, 9.2),
    ("regnet_y_1_6gf", 64, 11.2),
    ("resnet18", 64, 11.7),
    ("efficientnet_b3", 64, 12.2),
    ("densenet169", 64, 14.1),
    ("regnet_x_3_2gf", 64, 15.3),
    ("efficientnet_b4", 64, 19.3),
    ("regnet_y_3_2gf", 64, 19.4),
    ("densenet201", 64, 20.0),
    ("efficientnet_v2_s", 64, 21.5),
    ("resnet34", 64, 21.8),
    ("inception_v3", 96, 23.8),
    ("resnext50_32x4d", 64, 25.0),
    ("resnet50", 64, 25.6),
    ("swin_t", 64, 28.3),
    ("swin_v2_t", 64, 28.4),
    ("convnext_tiny", 64, 28.6),
    ("densenet161", 64, 28.7),
    ("efficientnet_b5", 64, 30.4),
    ("maxvit_t", 224, 30.9),
    ("regnet_y_8gf", 64, 39.4),
    ("regnet_x_8gf", 64, 39.6),
    ("efficientnet_b6", 64, 43.0),
    ("resnet101", 64, 44.5),
    ("swin_s", 64, 49.6),
    ("swin_v2_s", 64, 49.7),
    ("convnext_small", 64, 50.2),
    ("efficientnet_v2_m", 64, 54.1),
    ("regnet_x_16gf", 64, 54.3),
    ("resnet152", 64, 60.2),
    ("alexnet", 64, 61.1),
    ("efficientnet_b7", 64, 66.3),
    ("wide_resnet50_2", 64, 68.9),
    ("resnext101_64x4d", 64, 83.5),
    ("regnet_y_16gf", 64, 83.6),
    ("vit_b_16", 32, 86.4),
    ("swin_b", 64, 87.8),
    ("swin_v2_b", 64, 87.9),
    ("vit_b_32", 64, 88.2),
    ("convnext_base", 64, 88.6),
    ("resnext101_32x8d", 64, 88.8),
    ("regnet_x_32gf", 64, 107.8),
    ("efficientnet_v2_l", 64, 118.5),
    ("wide_resnet101_2", 64, 126.9),
    ("vgg11", 64, 132.9),
    ("vgg11_bn", 64, 132.9),
    ("vgg13", 64, 133.0),
    ("vgg13_bn", 64, 133.1),
    ("vgg16", 64, 138.4),
    ("vgg16_bn", 64, 138.4),
    ("vgg19", 64, 143.7),
    ("vgg19_bn", 64, 143.7),
    ("regnet_y_32gf", 64, 145.0),
    ("convnext_large", 64, 197.8),
    ("vit_l_16", 32, 304.1),
    ("vit_l_32", 64, 306.5),
    ("vit_h_14", 28, 631.7),
    ("regnet_y_128gf", 64, 644.8),
)
"""Every classification network of torchvision: name, height and width, millions of parameters."""

_CLASSIFICATION_OPTIONS: dict[str, dict[str, Any]] = {
    # What their published weights give: without the auxiliary classifiers, which only training uses.
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
    "vit_b_16": {"image_size": 32},
    "vit_b_32": {"image_size": 64},
    "vit_l_16": {"image_size": 32},
    "vit_l_32": {"image_size": 64},
    "vit_h_14": {"image_size": 28},
}

_SEGMENTATION: tuple[tuple[str, float], ...] = (
    ("lraspp_mobilenet_v3_large", 3.2),
    ("deeplabv3_mobilenet_v3_large", 11.0),
    ("fcn_resnet50", 33.0),
    ("deeplabv3_resnet50", 39.6),
    ("fcn_resnet101", 51.9),
    ("deeplabv3_resnet101", 58.6),
)

_DETECTION: tuple[tuple[str, int, float], ...] = (
    ("ssdlite320_mobilenet_v3_large", 320, 5.2),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", 128, 19.4),
    ("fasterrcnn_mobilenet_v3_large_fpn", 128, 19.4),
    ("fcos_resnet50_fpn", 128, 32.3),
    ("retinanet_resnet50_fpn", 128, 34.0),
    ("ssd300_vgg16", 300, 35.6),
    ("retinanet_resnet50_fpn_v2", 128, 38.2),
    ("fasterrcnn_resnet50_fpn", 128, 41.8),
    ("fasterrcnn_resnet50_fpn_v2", 128, 43.7),
    ("maskrcnn_resnet50_fpn", 128, 44.4),
    ("maskrcnn_resnet50_fpn_v2", 128, 46.4),
    ("keypointrcnn_resnet50_fpn", 128, 59.1),
)

_VIDEO: tuple[tuple[str, tuple[int, int, int], float], ...] = (
    ("s3d", (16, 224, 224), 8.3),
    ("mc3_18", (4, 32, 32), 11.7),
    ("swin3d_t", (4, 64, 64), 28.2),
    ("r2plus1d_18", (4, 32, 32), 31.5),
    ("r3d_18", (4, 32, 32), 33.4),
    ("mvit_v2_s", (16, 224, 224), 34.5),
    ("mvit_v1_b", (16, 224, 224), 36.6),
    ("swin3d_s", (4, 64, 64), 49.8),
    ("swin3d_b", (4, 64, 64), 88.0),
)

_FLOW: tuple[tuple[str, float], ...] = (("raft_small", 1.0), ("raft_large", 5.3))

_TIMM: tuple[tuple[str, int, bool, float], ...] = (
    ("starnet_s050", 64, False, 0.5),
    ("edgenext_xx_small", 64, False, 1.3),
    ("mobilevit_xxs", 64, False, 1.3),
    ("mobilevitv2_050", 64, False, 1.4),
    ("lcnet_050", 64, False, 1.9),
    ("efficientvit_m0", 64, True, 2.3),
    ("repghostnet_050", 64, False, 2.3),
    ("cspnext_tiny", 64, False, 2.7),
    ("regnetx_002", 64, False, 2.7),
    ("iformer_t", 64, False, 2.9),
    ("xcit_nano_12_p16_224", 32, True, 3.1),
    ("regnety_002", 64, False, 3.2),
    ("efficientvit_b0", 64, False, 3.4),
    ("swiftformer_xs", 64, False, 3.5),
    ("efficientformerv2_s0", 64, True, 3.6),
    ("convnext_atto", 64, False, 3.7),
    ("convnextv2_atto", 64, False, 3.7),
    ("pvt_v2_b0", 64, False, 3.7),
    ("mobilenetv4_conv_small", 64, False, 3.8),
    ("fasternet_t0", 64, False, 3.9),
    ("fastvit_t8", 64, False, 4.0),
    ("mixnet_s", 64, False, 4.1),
    ("inception_next_atto", 64, False, 4.2),
    ("tf_efficientnet_lite0", 64, False, 4.7),
    ("gmlp_ti16_224", 32, True, 4.7),
    ("pit_ti_224", 64, True, 4.8),
    ("rexnet_100", 64, False, 4.8),
    ("ghostnet_100", 64, False, 5.2),
    ("mobileone_s0", 64, False, 5.3),
    ("efficientnet_b0", 64, False, 5.3),
    ("hardcorenas_a", 64, False, 5.3),
    ("eva02_tiny_patch14_224", 28, True, 5.5),
    ("mobilenetv3_large_100", 64, False, 5.5),
    ("repvit_m0_9", 64, False, 5.5),
    ("coat_lite_tiny", 224, False, 5.7),
    ("convit_tiny", 32, True, 5.7),
    ("deit_tiny_patch16_224", 32, True, 5.7),
    ("vit_tiny_patch16_224", 32, True, 5.7),
    ("hgnetv2_b0", 64, False, 6.0),
    ("ghostnetv2_100", 64, False, 6.2),
    ("shvit_s1", 64, False, 6.3),
    ("vit_tiny_r_s16_p8_224", 64, True, 6.3),
    ("cpubone_nano", 64, False, 6.5),
    ("ese_vovnet19b_dw", 64, False, 6.5),
    ("efficientvim_m1", 64, False, 6.7),
    ("mambaout_femto", 64, False, 7.3),
    ("maxvit_rmlp_pico_rw_256", 64, True, 7.5),
    ("levit_128s", 64, True, 7.8),
    ("densenet121", 64, False, 8.0),
    ("gernet_s", 64, False, 8.2),
    ("crossvit_9_240", 240, False, 8.6),
    ("repvgg_a0", 64, False, 9.1),
    ("visformer_tiny", 64, True, 10.2),
    ("resnest14d", 64, False, 10.6),
    ("lambda_resnet26t", 64, True, 11.0),
    ("csatv2", 64, False, 11.1),
    ("mobilenetv4_hybrid_medium", 64, False, 11.1),
    ("resnet18", 64, False, 11.7),
    ("legacy_seresnet18", 64, False, 11.8),
    ("cait_xxs24_224", 32, True, 11.9),
    ("poolformer_s12", 64, False, 11.9),
    ("gcvit_xxtiny", 64, True, 12.0),
    ("skresnet18", 64, False, 12.0),
    ("tiny_vit_5m_224", 64, False, 12.1),
    ("efficientformer_l1", 224, False, 12.3),
    ("botnet26t_256", 64, True, 12.5),
    ("halonet26t", 256, False, 12.5),
    ("dpn68", 64, False, 12.6),
    ("hrnet_w18_small", 64, False, 13.2),
    ("efficientnetv2_rw_t", 64, False, 13.6),
    ("lowformer_b0", 64, False, 14.1),
    ("resmlp_12_224", 32, True, 14.9),
    ("coatnet_nano_rw_224", 64, True, 15.1),
    ("dla34", 64, False, 15.7),
    ("ecaresnet26t", 64, False, 16.0),
    ("nest_tiny", 64, True, 16.6),
    ("mixer_s16_224", 32, True, 17.7),
    ("convmixer_768_32", 64, False, 21.1),
    ("cspresnet50", 64, False, 21.6),
    ("deit3_small_patch16_224", 32, True, 22.0),
    ("vit_relpos_small_patch16_224", 32, True, 22.0),
    ("vitamin_small_224", 64, True, 22.1),
    ("legacy_xception", 64, False, 22.9),
    ("tnt_s_patch16_224", 32, True, 23.7),
    ("rdnet_tiny", 64, False, 23.9),
    ("mvitv2_tiny", 64, True, 24.1),
    ("twins_pcpvt_small", 64, True, 24.1),
    ("twins_svt_small", 64, True, 24.1),
    ("resnetv2_50", 64, False, 25.5),
    ("resnetv2_50x1_bit", 64, False, 25.5),
    ("nf_resnet50", 64, False, 25.6),
    ("res2net50_26w_4s", 64, False, 25.7),
    ("caformer_s18", 64, False, 26.3),
    ("volo_d1_224", 64, True, 26.6),
    ("xception41", 64, False, 27.0),
    ("cspdarknet53", 64, False, 27.6),
    ("hiera_tiny_224", 64, True, 27.6),
    ("sequencer2d_s", 64, True, 27.7),
    ("swin_tiny_patch4_window7_224", 56, True, 28.3),
    ("swinv2_tiny_window8_256", 64, True, 28.3),
    ("swinv2_cr_tiny_224", 64, True, 28.3),
    ("davit_tiny", 64, False, 28.4),
    ("focalnet_tiny_srf", 64, False, 28.4),
    ("tresnet_m", 64, False, 31.4),
    ("nextvit_small", 64, False, 31.8),
    ("selecsls42b", 64, False, 32.5),
    ("inception_v4", 96, False, 42.7),
    ("inception_resnet_v2", 96, False, 55.8),
    ("dm_nfnet_f0", 64, False, 71.5),
    ("beit_base_patch16_224", 32, True, 86.4),
    ("nasnetalarge", 96, False, 88.8),
    ("vgg11", 64, False, 132.9),
)
"""Networks of timm of many families: name, height and width, whether the network has to be told them, millions."""


def entries() -> tuple[ListedNetwork, ...]:
    """List every network, small ones first."""
    found = [
        *(
            _torchvision("torchvision", name, (1, 3, size, size), millions, _CLASSIFICATION_OPTIONS.get(name, {}))
            for name, size, millions in _CLASSIFICATION
        ),
        *(
            _torchvision("segmentation", name, (1, 3, 64, 64), millions, {"weights_backbone": None})
            for name, millions in _SEGMENTATION
        ),
        *(_detector(name, size, millions) for name, size, millions in _DETECTION),
        *(_torchvision("video", name, (1, 3, *size), millions, {}) for name, size, millions in _VIDEO),
        *(
            ListedNetwork(
                set="flow",
                name=name,
                maker="torchvision",
                wrapper="flow",
                inputs=((1, 3, 128, 128), (1, 3, 128, 128)),
                millions=millions,
            )
            for name, millions in _FLOW
        ),
        *(
            ListedNetwork(
                set="timm",
                name=name,
                maker="timm",
                options={"img_size": size} if told else {},
                inputs=((1, 3, size, size),),
                millions=millions,
            )
            for name, size, told, millions in _TIMM
        ),
    ]
    return tuple(sorted(found, key=lambda entry: entry.millions))


def _torchvision(
    part: str, name: str, shape: tuple[int, ...], millions: float, options: dict[str, Any]
) -> ListedNetwork:
    return ListedNetwork(set=part, name=name, maker="torchvision", options=options, inputs=(shape,), millions=millions)


def _detector(name: str, size: int, millions: float) -> ListedNetwork:
    # Few boxes and no threshold, so that untrained weights give detections to compare.
    options: dict[str, Any] = {"weights_backbone": None, "detections_per_img": 20}
    if "rcnn" in name:
        options = {"weights_backbone": None, "box_detections_per_img": 20, "box_score_thresh": 0.0}
        options |= {"rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 50, "rpn_score_thresh": 0.0}
    else:
        options |= {"score_thresh": 0.0, "topk_candidates": 50}
    if not name.startswith("ssd"):
        options |= {"min_size": size, "max_size": size}
    return ListedNetwork(
        set="detection",
        name=name,
        maker="torchvision",
        wrapper="detector",
        options=options,
        inputs=((1, 3, size, size),),
        millions=millions,
    )


SETS = ("torchvision", "segmentation", "detection", "video", "flow", "timm")
