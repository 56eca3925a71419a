"""Convolutions for images: classifiers, detectors, heads of self-supervision, local features."""

from __future__ import annotations

from ..recipe import Recipe, floats, given, images, new, of, same

CIFAR = """nin resnet20 preresnet20 densenet40_k12 pyramidnet110_a48 ror3_56 shakeshakeresnet20_2x16d seresnet20
    diaresnet20 wrn20_10_1bit""".split()
LARGE = "mobilenet_wd4 shufflenet_g1_wd4 menet108_8x1_g3 squeezenet_v1_1 ghostnet".split()
CITYSCAPES = ("lednet", "dabnet")
PRETRAINED = {"bninception": 224, "xception": 96, "squeezenet1_1": 64}
ULTRALYTICS = """yolov3-tiny yolov5n yolov6n yolov8n yolov8n-ghost yolov9t yolov10n yolo11n yolo12n
    yolo26n""".split()
TASKS = {"seg": "SegmentationModel", "pose": "PoseModel", "obb": "OBBModel"}

GET = "pytorchcv.model_provider:get_model"
pytorchcv = {name: (new(GET, f"{name}_cifar10"), images(32)) for name in CIFAR}
pytorchcv |= {name: (new(GET, name), images(224)) for name in LARGE}
pytorchcv |= {name: (new(GET, f"{name}_cityscapes"), images(64)) for name in CITYSCAPES}
pretrained = {
    name: (new("pretrainedmodels:" + name, num_classes=1000, pretrained=None), images(side))
    for name, side in PRETRAINED.items()
}
TASK = "ultralytics.nn.tasks"
ultralytics = {
    name: (new(f"{TASK}:DetectionModel", f"{name}.yaml", nc=4, verbose=False), images(64)) for name in ULTRALYTICS
}
ultralytics |= {
    f"yolov8n-{task}": (new(f"{TASK}:{cls}", f"yolov8n-{task}.yaml", nc=4, verbose=False), images(64))
    for task, cls in TASKS.items()
}
ultralytics["yolov8n-cls"] = (new(f"{TASK}:ClassificationModel", "yolov8n-cls.yaml", nc=4, verbose=False), images(64))

ROWS = given(floats(4, 24))
lightly = same(ROWS, "lightly.models.modules.heads", {
    "simclr_head": ("SimCLRProjectionHead", {"input_dim": 24, "hidden_dim": 32, "output_dim": 8, "num_layers": 3}),
    "byol_head": ("BYOLProjectionHead", {"input_dim": 24, "hidden_dim": 32, "output_dim": 8}),
    "barlow_twins_head": ("BarlowTwinsProjectionHead", {"input_dim": 24, "hidden_dim": 32, "output_dim": 8}),
    "dino_head": ("DINOProjectionHead", {"input_dim": 24, "hidden_dim": 32, "bottleneck_dim": 12, "output_dim": 40}),
})  # fmt: skip
lightly |= {
    f"resnet{depth}": (new("lightly.models:ResNetGenerator", f"resnet-{depth}", width=0.25), images(32))
    for depth in (9, 50)
}
lightly["mae_decoder"] = (
    new("lightly.models.modules:MAEDecoderTIMM", num_patches=9, patch_size=4, embed_dim=24, decoder_embed_dim=16,
        decoder_depth=1, decoder_num_heads=2),
    given(floats(2, 10, 24)))  # fmt: skip

PATCHES = images(32, channels=1)
kornia = same(PATCHES, "kornia.feature", {
    "hardnet": ("HardNet", {"pretrained": False}),
    "hynet": ("HyNet", {"pretrained": False}),
    "sosnet": ("SOSNet", {"pretrained": False}),
    "tfeat": ("TFeat", {"pretrained": False}),
    "xfeat": ("XFeatModel", {}),
})  # fmt: skip
kornia |= same(images(64), "kornia.models", {
    "tiny_vit": ("tiny_vit:TinyViT", {"img_size": 64, "num_classes": 5, "embed_dims": (16, 24, 32, 40),
                                      "depths": (1, 1, 1, 1), "num_heads": (2, 2, 4, 4),
                                      "window_sizes": (4, 4, 4, 2)}),
    "vit": ("vit:VisionTransformer", {"image_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2,
                                      "num_heads": 4}),
    "dexined": ("dexined:DexiNed", {"pretrained": False}),
})  # fmt: skip
kornia["small_sr"] = (
    new("kornia.models.small_sr:SmallSRNet", 2, pretrained=False), images(16, channels=1))  # fmt: skip

RECIPES: dict[str, Recipe] = {
    **of("pytorchcv", pytorchcv), **of("pretrainedmodels", pretrained), **of("ultralytics", ultralytics),
    **of("lightly", lightly), **of("kornia", kornia),
    **of("efficientnet_pytorch", {
        "b0": (new("efficientnet_pytorch:EfficientNet.from_name", "efficientnet-b0", num_classes=5), images(64))}),
    **of("resnest", {"resnest50": (new("resnest.torch:resnest50"), images(64))}),
    **of("facenet_pytorch", {
        "inception_resnet_v1": (new("facenet_pytorch:InceptionResnetV1", classify=True, num_classes=5), images(96))}),
}  # fmt: skip
