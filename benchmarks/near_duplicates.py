"""Near copies among photographs of your own: how many are found, and how many pairs are called so wrongly.

    python benchmarks/near_duplicates.py FOLDER [--photographs 1000] [--copied 250]

FOLDER holds different photographs, in class folders or not; so many of them are compared with one another, and with
copies of the first of them that are changed as copies on the web are. Sizes and thresholds are those of conf/folders
and conf/photos. docs/measured.md has the figures of a public set.
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from kedro.config import OmegaConfigLoader
from PIL import Image, ImageEnhance, ImageFilter

from cnn_transfer.images import DecodedImages, ImageFormat, ImageSet, list_unlabelled, open_image_set, write_image_set
from cnn_transfer.images.duplicates import NearDuplicates, near_pairs
from cnn_transfer.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ("folders", "photos")
Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--copied", type=int, default=250)
    options = parser.parse_args()
    files = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    with tempfile.TemporaryDirectory() as folder:
        write_copies(files[: options.photographs], options.copied, Path(folder) / "photographs")
        columns = {name: measure(Path(folder), name) for name in ENVIRONMENTS}
    print(pd.DataFrame(columns).to_string())


def write_copies(files: list[Path], copied: int, folder: Path) -> None:
    """Each photograph as `original-<number>`, and the first ones once for each change, without loss."""
    folder.mkdir()
    for number, file in enumerate(files):
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        for name, change in {"original": Image.Image.copy, **(CHANGES if number < copied else {})}.items():
            change(picture).save(folder / f"{name}-{number:05d}.png")


def measure(folder: Path, environment: str) -> dict[str, str]:
    """By change, the share of copies that are found; and pairs of different photographs that are called near copies."""
    parameters = OmegaConfigLoader(str(ROOT / "conf"), env=environment, **CONFIG_LOADER_ARGS)["parameters"][
        "preprocess"
    ]
    image_format = ImageFormat(**parameters["target"]["image_format"])
    rule = NearDuplicates(**parameters["target"]["check"]["near_duplicates"])
    listing = list_unlabelled(folder / "photographs")
    made = folder / environment
    write_image_set(DecodedImages(listing, image_format, np.arange(len(listing.table))), made)
    images = open_image_set(made)
    names = images.table["id"].map(lambda path: Path(path).stem).str.rsplit("-", n=1, expand=True)
    change, number = names[0].to_numpy(), names[1].to_numpy(int)
    originals = np.flatnonzero(change == "original")
    wrong = len(near_pairs(images, originals, rule))
    found = dict(found_of(images, change, number, rule))
    return {
        "size, px": f"{image_format.image_size_px}",
        "bits, correlation": f"{rule.most_bits}, {rule.least_correlation}",
        "compared at, px": f"{rule.compared_px or image_format.image_size_px}",
        "different photographs": f"{len(originals):,}",
        "wrong pairs among them": f"{wrong:,}",
        **{name: f"{share:.0%}" for name, share in found.items()},
    }


def found_of(
    images: ImageSet, change: np.ndarray, number: np.ndarray, rule: NearDuplicates
) -> Iterator[tuple[str, float]]:
    """Of each change, the share of its copies that are paired with the photograph that they are of."""
    for name in CHANGES:
        copies = np.flatnonzero(change == name)
        rows = np.concatenate([np.flatnonzero((change == "original") & np.isin(number, number[copies])), copies])
        first, second = near_pairs(images, rows, rule).T
        yield name, float((number[first] == number[second]).sum() / len(copies))


def compressed(quality: int) -> Change:
    """Written as JPEG and read again."""

    def change(picture: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        return Image.open(stream).convert("RGB")

    return change


def cropped(share: float) -> Change:
    """So much of the width and the height cut off, evenly on all sides."""

    def change(picture: Image.Image) -> Image.Image:
        width, height = (round(share / 2 * side) for side in picture.size)
        return picture.crop((width, height, picture.width - width, picture.height - height))

    return change


def smaller(factor: int) -> Change:
    """So many times smaller."""
    return lambda picture: picture.resize([max(1, side // factor) for side in picture.size], Image.Resampling.BILINEAR)


def stamped(picture: Image.Image) -> Image.Image:
    """A white field over the lower right corner, a fifth of the width and a tenth of the height."""
    stamped = picture.copy()
    stamped.paste((255, 255, 255), (round(0.8 * picture.width), round(0.9 * picture.height), *picture.size))
    return stamped


CHANGES: dict[str, Change] = {
    "JPEG of quality 30": compressed(30),
    "a quarter of the size": smaller(4),
    "brighter by 15%": lambda picture: ImageEnhance.Brightness(picture).enhance(1.15),
    "more contrast by 20%": lambda picture: ImageEnhance.Contrast(picture).enhance(1.2),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "blurred by 1 px": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
    "cropped by 2%": cropped(0.02),
    "cropped by 5%": cropped(0.05),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored, JPEG of quality 30": lambda picture: compressed(30)(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "mirrored, cropped by 2%": lambda picture: cropped(0.02)(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "turned by 1 degree": lambda picture: picture.rotate(1, Image.Resampling.BICUBIC),
    "stamped in a corner": stamped,
}


if __name__ == "__main__":
    main()
