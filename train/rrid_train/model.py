"""RRID: the relation network of Park & Ham, "Relation Network for Person Re-identification", AAAI 2020.

The tensors have the names of the published network (``base.*`` for the backbone, ``local_6_conv_list.0.0`` and so on
for the head), so published weights load without renaming. The form for deployment is ``rrid_export.branch``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from rrid_edge.errors import CheckpointError, UsageError
from rrid_train.fitting import check_fit
from rrid_train.settings import ModelConfig

_BLOCKS_OF_LAYERS = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}


class RRIDOutput(NamedTuple):
    """Output of one forward pass; the numbers in brackets are for stripes (6, 4, 2).

    Attributes:
        blocks: float (B, blocks, block_width): one relation feature per stripe (12), then one global contrastive
            feature per scale (3).
        logits: float (heads, B, persons), one head per classifier (45): on each relation feature (12), each projected
            stripe (12) and each projected rest (12). Then, per scale: on the global feature, its projected maximum and
            its projected contrast (9).
    """

    blocks: Tensor
    logits: Tensor


class RRID(nn.Module):
    """The network: backbone, one-vs-rest relation module, global contrastive pooling, classifiers.

    Args:
        config: backbone and sizes.
        num_persons: classes of the classifiers.

    Raises:
        UsageError: ``num_persons`` is below 1.
    """

    def __init__(self, config: ModelConfig, num_persons: int) -> None:
        super().__init__()
        if num_persons < 1:
            raise UsageError(
                f"a network for {num_persons} people does not work: expected at least 1", parameter="num_persons"
            )
        self.config = config
        self.num_persons = num_persons
        self.base: nn.Module = _backbone(config.backbone)
        channels = 2048 if _BLOCKS_OF_LAYERS[config.backbone][0] else 512
        width = config.block_width
        for kind, inputs in (("local", channels), ("rest", channels), ("relation", 2 * width)):
            for count in config.stripes:
                self.add_module(f"{kind}_{count}_conv_list", _projections(inputs, width, count))
        for kind, inputs in (("max", channels), ("rest", channels), ("pooling", 2 * width)):
            for count in config.stripes:
                self.add_module(f"global_{count}_{kind}_conv_list", _projections(inputs, width, 1))
        for kind in ("local", "rest", "local_rest"):
            for count in config.stripes:
                self.add_module(f"fc_{kind}_{count}_list", _classifiers(width, num_persons, count))
        for kind in ("global", "global_max", "global_rest"):
            for count in config.stripes:
                self.add_module(f"fc_{kind}_{count}_list", _classifiers(width, num_persons, 1))

    def forward(self, images: Tensor) -> RRIDOutput:
        """Blocks and logits of a batch.

        Args:
            images: float (B, 3, height, width), RGB, as :func:`rrid_train.reference.normalise` makes them.

        Raises:
            UsageError: the images have another size than the network.
        """
        return self.head(self.feature_map(images))

    def feature_map(self, images: Tensor) -> Tensor:
        """The backbone's output, float (B, channels, height / 16, width / 16). ``layer4`` has stride 1.

        Raises:
            UsageError: the images have another size than the network.
        """
        expected = (3, self.config.height_px, self.config.width_px)
        if tuple(images.shape[1:]) != expected:
            raise UsageError(
                f"images of shape {tuple(images.shape)} do not fit the network: expected "
                f"(batch, {', '.join(map(str, expected))}); resize them"
            )
        base = cast("Any", self.base)
        stem = base.maxpool(base.relu(base.bn1(base.conv1(images))))
        features: Tensor = base.layer4(base.layer3(base.layer2(base.layer1(stem))))
        return features

    def head(self, features: Tensor) -> RRIDOutput:
        """Blocks and logits of a feature map, float (B, channels, rows, columns) (paper, sections 3.2 and 3.3)."""
        local_blocks: list[Tensor] = []
        global_blocks: list[Tensor] = []
        logits: dict[str, list[Tensor]] = {"local_rest": [], "local": [], "rest": [], "global": []}
        rows, columns = features.shape[2:]
        whole = F.max_pool2d(features, (rows, columns))
        for count in self.config.stripes:
            pooled = F.max_pool2d(features, (rows // count, columns))
            total = pooled.sum(dim=2, keepdim=True)
            for index in range(count):
                part = pooled[:, :, index : index + 1]
                rest = (total - part) / (count - 1)
                feature, local, other = self._relate(
                    f"{{}}_{count}_conv_list", ("local", "rest", "relation"), index, part, rest
                )
                local_blocks.append(feature)
                logits["local_rest"].append(self._run(f"fc_local_rest_{count}_list", index, feature))
                logits["local"].append(self._run(f"fc_local_{count}_list", index, local))
                logits["rest"].append(self._run(f"fc_rest_{count}_list", index, other))
            contrast = (total - whole) / (count - 1)
            names = ("max", "rest", "pooling")
            feature, peak, other = self._relate(f"global_{count}_{{}}_conv_list", names, 0, whole, contrast)
            global_blocks.append(feature)
            for kind, value in (("global", feature), ("global_max", peak), ("global_rest", other)):
                logits["global"].append(self._run(f"fc_{kind}_{count}_list", 0, value))
        return RRIDOutput(
            torch.stack([*local_blocks, *global_blocks], dim=1),
            torch.stack([*logits["local_rest"], *logits["local"], *logits["rest"], *logits["global"]]),
        )

    def _relate(
        self, pattern: str, names: tuple[str, str, str], index: int, one: Tensor, rest: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The relation feature of ``one`` and ``rest`` (paper, equations 2 and 4), and both projections.

        The concatenated projections pass the relation layer; the projected ``one`` is added to its output.

        Args:
            pattern: name of the module lists, with ``{}`` for the kind.
            names: kinds of the projection of ``one``, of ``rest``, and of the relation.
            index: number of the stripe in these lists.
            one: float (B, channels, 1, 1).
            rest: float (B, channels, 1, 1).

        Returns:
            float (B, block_width) each: relation feature, projected ``one``, projected ``rest``.
        """
        one_projected = self._run(pattern.format(names[0]), index, one)
        rest_projected = self._run(pattern.format(names[1]), index, rest)
        relation = self._run(pattern.format(names[2]), index, torch.cat([one_projected, rest_projected], dim=1))
        return (one_projected + relation).flatten(1), one_projected.flatten(1), rest_projected.flatten(1)

    def _run(self, name: str, index: int, value: Tensor) -> Tensor:
        result: Tensor = self.get_submodule(f"{name}.{index}")(value)
        return result

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the backbone, which get the lower learning rate ``base_lr``."""
        return self.base.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the head (projections, relations, classifiers), which get the learning rate ``lr``."""
        return (parameter for name, parameter in self.named_parameters() if not name.startswith("base."))

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], *, height_px: int = 384, width_px: int = 128, where: str = "state dict"
    ) -> RRID:
        """Build the network that fits a state dict, and load it. All sizes but the input's come from the tensors.

        Args:
            state: tensors by their published names, without a wrapper's prefix.
            height_px: input rows.
            width_px: input columns.
            where: name of the file, for messages.

        Raises:
            CheckpointError: the tensors are no RRID network, or some are missing, unknown or of another shape.
        """
        config, num_persons = infer_config(state, height_px=height_px, width_px=width_px, where=where)
        return cls.with_weights(config, num_persons, state, where=where)

    @classmethod
    def with_weights(cls, config: ModelConfig, num_persons: int, state: Mapping[str, Tensor], *, where: str) -> RRID:
        """Build a network and load its weights. No random weights are drawn, and no memory is taken before they fit.

        Raises:
            CheckpointError: as :func:`rrid_train.fitting.load_exactly`.
        """
        if sum(config.stripes) > len(state):  # a network with so many parts is not even described
            raise CheckpointError(
                f"{where}: {len(state)} tensors are too few for stripes {config.stripes}; give one complete checkpoint"
            )
        with torch.device("meta"):
            model = cls(config, num_persons)
        check_fit(model, state, where=where)
        model.to_empty(device="cpu")
        for name, counter in model.named_buffers():
            if name.endswith("num_batches_tracked"):  # the only tensors that a file may lack
                counter.zero_()
        model.load_state_dict(dict(state), strict=False)
        return model


def infer_config(state: Mapping[str, Tensor], *, height_px: int, width_px: int, where: str) -> tuple[ModelConfig, int]:
    """Configuration and number of persons of a state dict, from its names and shapes.

    Arguments as for :meth:`RRID.from_state_dict`.

    Raises:
        CheckpointError: the tensors are no RRID network.
    """
    pattern = re.compile(r"local_(\d{1,4})_conv_list\.0\.0\.weight")
    stripes = tuple(int(found[1]) for name in state if (found := pattern.fullmatch(name)))
    stripes = tuple(sorted(stripes, reverse=True))
    bottleneck = "base.layer1.0.conv3.weight" in state
    depths = tuple(
        len({name.split(".")[2] for name in state if name.startswith(f"base.layer{layer}.")}) for layer in range(1, 5)
    )
    backbone = next((name for name, form in _BLOCKS_OF_LAYERS.items() if form == (bottleneck, depths)), None)
    head = state.get(f"local_{stripes[0]}_conv_list.0.0.weight") if stripes else None
    classifier = state.get(f"fc_local_{stripes[0]}_list.0.weight") if stripes else None
    if backbone is None or head is None or classifier is None or head.ndim != 4 or classifier.ndim != 2 or 1 in stripes:
        raise CheckpointError(
            f"{where}: its {len(state)} tensor(s) are not an RRID network (expected 'base.*' of a torchvision ResNet, "
            "'local_<stripes>_conv_list.*' and 'fc_local_<stripes>_list.*'); give a checkpoint of rrid-edge train or "
            "the published network's weights"
        )
    config = ModelConfig(backbone, height_px, width_px, stripes, int(head.shape[0]))
    return config, int(classifier.shape[0])


def _backbone(name: str) -> nn.Module:
    """A torchvision ResNet without classifier and with stride 1 in ``layer4``."""
    base: Any = torchvision.models.get_model(name, weights=None)
    del base.fc, base.avgpool
    first = base.layer4[0]
    for convolution in (first.conv1, first.conv2, first.downsample[0]):
        convolution.stride = (1, 1)
    return cast("nn.Module", base)


def _projections(inputs: int, outputs: int, count: int) -> nn.ModuleList:
    """``count`` independent layers: 1x1 convolution, batch norm, ReLU."""
    return nn.ModuleList(_projection(inputs, outputs) for _ in range(count))


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 1)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="relu")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _classifiers(inputs: int, num_persons: int, count: int) -> nn.ModuleList:
    """``count`` independent linear classifiers; initial weights have standard deviation 0.001 (published recipe)."""
    heads = nn.ModuleList(nn.Linear(inputs, num_persons) for _ in range(count))
    for head in heads:
        assert isinstance(head, nn.Linear)
        nn.init.normal_(head.weight, std=0.001)
        nn.init.zeros_(head.bias)
    return heads
