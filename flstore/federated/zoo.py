"""How large the models of cross-device federated learning are, measured from real state dicts.

Section 2.3 of the paper takes the mean of 23 popular models, 161 MB, and concludes that cloud functions of 10 GB can
cache them. The list itself is in an appendix that its text does not repeat, so this one is made by a rule, not to
meet the number:

- what the works that section 2.3 names train: the four networks of LEAF that have tensors (Caldas et al., 2018), and
  the four of Oort (Lai et al., 2021b);
- the four of the paper's own evaluation;
- nine architectures from the model list of FedScale, the benchmark around Oort, that torchvision ships too, each in the
  size that is met most often;
- two transformers for text that were made small for phones, beside Oort's one.

A model is built without weights on torch's meta device, which gives every tensor a shape and no memory. Classifiers
have the 1000 classes of ImageNet, as published; tensors that two names share (tied embeddings) count once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flstore.errors import InvalidParameterError
from flstore.federated.llama import transformers_module
from flstore.federated.models import torch_module, torchvision_module
from flstore.functions.memory import cache_bytes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Model:
    """One of the models.

    Attributes
    ----------
    name, family : str
        As it is called, and what it is a size of.
    source : str
        Why it is here.
    build : callable
        Makes the ``torch.nn.Module``, on whatever device is set.
    """

    name: str
    family: str
    source: str
    build: Callable[[], Any]


def footprints(memory_bytes: int = 10 * 10**9, per_round: int = 10, window: int = 10) -> pd.DataFrame:
    """Size of each of the 23 models, and how many of its updates the cache of a function holds.

    Parameters
    ----------
    memory_bytes : int
        Of a function; the cache is what is left of it after scratch space.
    per_round : int
        Clients a round; a round is their updates and an aggregate.
    window : int
        Rounds that P2 keeps.

    Returns
    -------
    DataFrame
        One row a model, the largest last: model, family, source, tensors, parameters, bytes, updates_fit (in one
        function), rounds_fit, window_functions (functions whose caches hold the window, each update whole in one of
        them; 0 where not even one update fits).

    Raises
    ------
    InvalidParameterError
        A number below one.
    OptionalDependencyError
        torch, torchvision or transformers is not installed.
    """
    import pandas as pd

    if min(memory_bytes, per_round, window) < 1:
        raise InvalidParameterError(
            f"memory_bytes={memory_bytes}, per_round={per_round}, window={window}: each must be at least 1"
        )
    rows, cache = [], cache_bytes(memory_bytes)
    for model in MODELS:
        tensors, parameters, size = measure(model.build)
        fit, objects = cache // size, per_round + 1
        functions = -(-window * objects // fit) if fit else 0
        row = (model.name, model.family, model.source, tensors, parameters, size, fit, fit // objects, functions)
        rows.append(row)
    columns = ["model", "family", "source", "tensors", "parameters", "bytes", "updates_fit", "rounds_fit"]
    table = pd.DataFrame(rows, columns=[*columns, "window_functions"])
    return table.sort_values("bytes", kind="stable", ignore_index=True)


def measure(build: Callable[[], Any]) -> tuple[int, int, int]:
    """Tensors in a model's state dict, how many of their numbers are parameters, and bytes; nothing is allocated."""
    with torch_module().device("meta"):
        module = build()
    # Tied weights are one object under two names, as long as autograd's objects are kept.
    tensors = {id(tensor): tensor for tensor in module.state_dict(keep_vars=True).values()}
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return len(tensors), parameters, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _torchvision(name: str, **options: Any) -> Any:
    return torchvision_module().models.get_model(name, weights=None, **options)


def _transformer(config: str, model: str, **options: Any) -> Any:
    transformers = transformers_module()
    return getattr(transformers, model)(getattr(transformers, config)(**options))


def _femnist() -> Any:
    nn = torch_module().nn
    convolutions = [nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    convolutions += [nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(7 * 7 * 64, 2048), nn.ReLU(), nn.Linear(2048, 62))


def _celeba() -> Any:
    nn, layers = torch_module().nn, list[Any]()
    for channels in (3, 32, 32, 32):
        layers += [
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 6 * 32, 2))


def _stacked_lstm(vocabulary: int, embedding: int) -> Any:
    nn = torch_module().nn
    lstm = nn.LSTM(embedding, 256, num_layers=2, batch_first=True)
    return nn.ModuleDict(
        {"embedding": nn.Embedding(vocabulary, embedding), "lstm": lstm, "out": nn.Linear(256, vocabulary)}
    )


_LEAF, _OORT, _PAPER, _LISTED = (
    "trained in LEAF",
    "trained in Oort",
    "the paper's evaluation",
    "in FedScale's model list",
)
_PHONES = "text on phones"
_ALBERT = {"embedding_size": 128, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}

MODELS = (
    Model("FEMNIST CNN", "LEAF", _LEAF, _femnist),
    Model("CelebA CNN", "LEAF", _LEAF, _celeba),
    Model("Shakespeare LSTM", "LEAF", _LEAF, partial(_stacked_lstm, 80, 8)),
    Model("Reddit LSTM", "LEAF", _LEAF, partial(_stacked_lstm, 10_000, 256)),
    Model("MobileNetV2", "MobileNet", _OORT, partial(_torchvision, "mobilenet_v2")),
    Model("ShuffleNetV2 x1.0", "ShuffleNet", _OORT, partial(_torchvision, "shufflenet_v2_x1_0")),
    Model("ResNet-34", "ResNet", _OORT, partial(_torchvision, "resnet34")),
    Model("ALBERT base", "BERT", _OORT, partial(_transformer, "AlbertConfig", "AlbertForMaskedLM", **_ALBERT)),
    Model("EfficientNetV2-S", "EfficientNet", _PAPER, partial(_torchvision, "efficientnet_v2_s")),
    Model("ResNet-18", "ResNet", _PAPER, partial(_torchvision, "resnet18")),
    Model("MobileNetV3-S", "MobileNet", _PAPER, partial(_torchvision, "mobilenet_v3_small")),
    Model("SwinV2-T", "Swin", _PAPER, partial(_torchvision, "swin_v2_t")),
    Model("AlexNet", "AlexNet", _LISTED, partial(_torchvision, "alexnet")),
    Model("VGG-16", "VGG", _LISTED, partial(_torchvision, "vgg16")),
    Model("SqueezeNet 1.1", "SqueezeNet", _LISTED, partial(_torchvision, "squeezenet1_1")),
    Model("DenseNet-121", "DenseNet", _LISTED, partial(_torchvision, "densenet121")),
    Model("Inception v3", "Inception", _LISTED, partial(_torchvision, "inception_v3", init_weights=False)),
    Model("MNASNet 1.0", "MNASNet", _LISTED, partial(_torchvision, "mnasnet1_0")),
    Model("EfficientNet-B0", "EfficientNet", _LISTED, partial(_torchvision, "efficientnet_b0")),
    Model("ResNet-50", "ResNet", _LISTED, partial(_torchvision, "resnet50")),
    Model("ViT-B/16", "ViT", _LISTED, partial(_torchvision, "vit_b_16")),
    Model("DistilBERT", "BERT", _PHONES, partial(_transformer, "DistilBertConfig", "DistilBertForMaskedLM")),
    Model("MobileBERT", "BERT", _PHONES, partial(_transformer, "MobileBertConfig", "MobileBertForMaskedLM")),
)
"""The 23, by where they come from."""
