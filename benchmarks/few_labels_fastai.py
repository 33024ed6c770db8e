"""One fit of fastai's `fine_tune(10)` for few_labels.py, in an environment with fastai, torch and the original network.

    python few_labels_fastai.py SPLIT.npz WEIGHTS.pth SEED FLIP

Batches of 16, or a quarter of the images where that is less: larger ones leave too few steps. fastai's default
augmentation, mirrored only where FLIP is True; the head of `create_head`, discriminative learning rates and the
schedule as fastai sets them.
"""

import json
import sys
import time

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from fastai.vision.all import (
    CrossEntropyLossFlat,
    DataLoaders,
    Learner,
    Normalize,
    TensorCategory,
    TensorImage,
    aug_transforms,
    create_head,
    params,
    set_seed,
)


class Body(torch.nn.Module):  # type: ignore[misc]
    """The network without its head."""

    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) → (n, 1280, height / 32, width / 32)."""
        return self.network.extract_features(torch.as_tensor(x))


def main(split: str, weights: str, seed: str, flip: str) -> None:
    """Fit, predict, print JSON."""
    set_seed(int(seed), reproducible=True)
    data = np.load(split)
    x, y, test, truth = (torch.from_numpy(data[key]) for key in ("x", "y", "test", "truth"))
    x, test = (images.permute(0, 3, 1, 2).float() / 255 for images in (x, test))
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, weights_only=True))
    network._fc = torch.nn.Identity()
    model = torch.nn.Sequential(Body(network), create_head(1280, int(y.max()) + 1))
    pairs = [(TensorImage(image), TensorCategory(label)) for image, label in zip(x, y, strict=True)]
    normalise = Normalize.from_stats([127 / 255] * 3, [128 / 255] * 3, cuda=False)
    batch = [*aug_transforms(size=x.shape[-1], do_flip=flip == "True"), normalise]
    size = min(16, len(pairs) // 4)
    loaders = DataLoaders.from_dsets(pairs, pairs[:8], bs=size, after_batch=batch, num_workers=0, device="cpu")
    learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), splitter=lambda m: [params(m[0]), params(m[1])])
    start = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(10)
    seconds = time.perf_counter() - start
    model.eval()
    with torch.no_grad():
        parts = [model((part - 127 / 255) / (128 / 255)).argmax(dim=1) for part in test.split(256)]
    print(json.dumps({"accuracy": float((torch.cat(parts) == truth).float().mean()), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
