"""Pictures of results, as matplotlib figures without global state."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.predictions import PREDICTED, confident_mistakes
from cnn_transfer.evaluation.probabilities import share_text, whole_percent
from cnn_transfer.images import ImageSet
from cnn_transfer.images.thumbnails import EXACT_PX, reduced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # Kedro resolves the annotations of nodes when it lists pipelines, and must not pay for matplotlib
    Axes = Figure = Any

__all__ = [
    "Axes",
    "Figure",
    "PictureGrid",
    "as_svg",
    "draw_accuracies",
    "draw_confusion",
    "draw_depths",
    "draw_mistakes",
    "draw_ranking",
    "draw_training_curves",
    "drawable",
    "from_to",
    "new_figure",
    "on_the_same_images",
    "short_name",
    "show_images",
]

TRANSFER_COLOUR, BASELINE_COLOUR = "#0072b2", "#d55e00"  # readable with colour blindness (Okabe and Ito)
SOURCE_COLOUR = "#808080"  # seen on a light page and on a dark one

INTERVAL = 1.96  # standard errors
MOST_SHOWN_PX = 128  # a side of a picture: an SVG carries every pixel, and shows it an inch or two wide
NOT_JUDGED = "No validation images: the head in closed form as it is"
MOST_NAME_CHARACTERS = 22  # of a name beside a row
MOST_TITLE_CHARACTERS = 16  # of a line above a picture of 1.3 inches
MOST_CLASSES_NAMED = 100  # along an axis; of more, evenly apart
MOST_TICK_CHARACTERS = 50  # of all names along an axis, if they are to stand upright
TITLE: dict[str, Any] = {"fontsize": 8, "parse_math": False}
ESCAPED = r"\\u[0-9a-f]{4}|\\U00(?:0[0-9a-f]|10)[0-9a-f]{4}|\\x[0-9a-f]{2}"  # what `drawable` writes for a character
TITLE_ROOM = 0.25  # of a picture's height, for two lines
RANK_COLOURS = {
    "as good as the best": TRANSFER_COLOUR,
    "clearly worse": "#9ecae1",
    "adds nothing over random weights": "#cccccc",
}


def draw_training_curves(source_log: pd.DataFrame, target_log: pd.DataFrame, baseline_log: pd.DataFrame) -> Figure:
    """Validation accuracy against images processed: pretraining on the left, transfer and baseline on the right.

    A source network that was imported has no log, and there is no left side. Without validation images there is nothing
    to draw on the right, and words say so.
    """
    best = pd.Series([log["validation_accuracy"].max() for log in (target_log, baseline_log)]).dropna()
    if best.empty and source_log.empty:
        return draw_words(NOT_JUDGED)
    figure = new_figure(10 if len(source_log) else 6, 4)
    *before, right = figure.subplots(1, 2 if len(source_log) else 1, squeeze=False)[0]
    for left in before:
        left.plot(source_log["images_processed"], source_log["validation_accuracy"], "o-", ms=3, color=SOURCE_COLOUR)
        left.set_title("Pretraining on the source", fontsize=10)
    delivered_lines = []
    for log, name, colour in (
        (baseline_log, "from scratch", BASELINE_COLOUR),
        (target_log, "transfer", TRANSFER_COLOUR),
    ):
        for _, trial in log.groupby("trial"):
            delivered, rate = bool(trial["delivered"].iloc[0]), trial["learning_rate"].iloc[0]
            what = f"rate {rate:g}" if rate else trial["phase"].iloc[0]  # a network that was judged without training
            (line,) = right.plot(
                trial["images_processed"],
                trial["validation_accuracy"],
                "o-" if delivered or len(trial) == 1 else "-",
                ms=3,
                lw=1.5 if delivered else 0.8,
                alpha=1 if delivered else 0.4,
                color=colour,
                label=drawable(f"{name}, {what}"),
            )
            delivered_lines += [line] * delivered
    if len(best):
        lowest = max(0.0, 1 - 4 * (1 - best.min()) - 0.05)  # the best of each is seen
        right.set_ylim(lowest, 1 + 0.02 * (1 - lowest))  # a point at 1 is seen whole
        cut_off = " (lower part cut off)" if lowest else ""
        right.set_title(f"Training on the target{cut_off}", fontsize=10)
        _name_curves(right, delivered_lines)
    else:
        right.set_title(NOT_JUDGED, fontsize=10)
        right.axis("off")
    for axes in (*before, right):
        axes.set_xlabel("images processed")
        axes.set_ylabel("validation accuracy")
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", nbins=6)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
    return figure


def _name_curves(axes: Axes, delivered: list[Any]) -> None:
    """A legend of the delivered trials; the others, of which there may be many, share a line."""
    lines = axes.get_lines()
    named = delivered or lines[:1]
    names = [str(line.get_label()) for line in named]
    if len(lines) > len(named):
        from matplotlib.lines import Line2D

        named = [*named, Line2D([], [], lw=0.8, alpha=0.6, color=SOURCE_COLOUR)]
        names.append("pale: the other trials")
    for text in axes.legend(named, names, fontsize=8).get_texts():
        text.set_parse_math(False)  # the name of a source may hold anything


def draw_accuracies(networks: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Accuracy of networks on the same test images, each with its interval.

    Args:
        networks: Metrics (`accuracy`, `accuracy_low`, `accuracy_high`) by what a network is called, the first on top.
    """
    figure = new_figure(5.5, 0.9 + 0.42 * len(networks))
    axes = figure.subplots()
    for place, metrics in enumerate(networks.values()):
        value, low, high = (metrics[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
        colour = SOURCE_COLOUR if place else TRANSFER_COLOUR
        axes.plot([low, high], [place, place], lw=5, alpha=0.45, solid_capstyle="butt", color=colour)
        axes.plot(value, place, "o", ms=8, color=colour)
        axes.annotate(share_text(value), (value, place), (0, 9), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(range(len(networks)), list(networks))
    axes.set_ylim(len(networks) - 0.5, -0.7)
    axes.set_xlabel("accuracy on the test images")
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%" if value <= 1 else "")
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def draw_depths(depths: pd.DataFrame, plan: Mapping[str, Any]) -> Figure:
    """Accuracy of a head on each depth alone, of the source's weights and of random ones, and of the chosen depths.

    Args:
        depths: One row a tap, from shallow to deep: `tap`, `weight`, `accuracy`, `random_accuracy` (or missing).
        plan: The transfer plan.
    """
    from matplotlib.patches import Patch

    if is_blind(plan):
        return draw_words("Every class has one training image: no image can be left out to ask what each depth knows")
    names = [short_name(name) for name in depths["tap"]]
    slanted = len(names) * max(map(len, names)) > MOST_TICK_CHARACTERS
    figure = new_figure(max(5.5, 2.5 + 0.4 * len(depths)), 4 + slanted * 0.06 * max(map(len, names)))
    axes = figure.subplots()
    places = np.arange(len(depths))
    weights = depths["weight"].to_numpy(float)
    bars = axes.bar(places, depths["accuracy"], 0.62, color=TRANSFER_COLOUR)
    alone = Patch(color=TRANSFER_COLOUR, label="source's weights, this depth alone")
    for bar, weight in zip(bars, weights / weights.max(), strict=True):
        bar.set_alpha(0.2 + 0.8 * np.sqrt(weight))
    if depths["random_accuracy"].notna().any():
        axes.plot(places, depths["random_accuracy"], "o", ms=5, color=BASELINE_COLOUR, label="random weights, alone")
    evidence = plan["evidence"]
    reached = {"all chosen depths": (on_the_same_images(evidence["transferred"]), TRANSFER_COLOUR, "-")}
    if "random_weights" in evidence:
        reached["the same on random weights"] = (
            on_the_same_images(evidence["random_weights"]),
            BASELINE_COLOUR,
            "-",
        )
    reached["permuted labels"] = (
        evidence["transferred"]["permuted_labels"],
        SOURCE_COLOUR,
        ":",
    )
    for name, (accuracy, colour, style) in reached.items():
        axes.axhline(accuracy, color=colour, ls=style, lw=1.5, label=f"{name}: {share_text(accuracy)}")
    axes.set_xticks(places, names, rotation=45 if slanted else 0, ha="right" if slanted else "center", parse_math=False)
    axes.set_ylim(0, 1.03)  # what is always right is not on the frame
    axes.set_ylabel("accuracy on left-out training images")
    axes.set_title("What each depth knows (the paler, the less it weighs in the head)", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    lines, _ = axes.get_legend_handles_labels()  # two columns would be wider than the figure
    figure.legend(handles=[alone, *lines], fontsize=8, loc="outside lower center", frameon=False)
    return figure


def is_blind(plan: Mapping[str, Any] | None) -> bool:
    """Whether left-out images say nothing, since each is all there is of its class; see `transfer.Head.blind`."""
    chosen = ((plan or {}).get("evidence") or {}).get("transferred") or {}
    return bool(chosen.get("lone_images")) and chosen["lone_images"] == chosen["images"]


def on_the_same_images(evidence: Mapping[str, Any]) -> float:
    """Accuracy of the chosen depths where that of each was measured: on all training images, or on a draw of them."""
    drawn = evidence["depths_chosen_on"]
    return float(evidence["accuracy"] if drawn["images"] == evidence["images"] else drawn["accuracy"])


def draw_ranking(ranking: pd.DataFrame) -> Figure:
    """What each candidate's head gets wrong and right, beside random weights of the same architecture.

    Args:
        ranking: One row a candidate, the best first; see `cnn_transfer.transfer.Ranking`.
    """
    figure = new_figure(9.5, 1.9 + 0.5 * len(ranking))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(ranking))
    colours = [RANK_COLOURS[verdict] for verdict in ranking["verdict"]]
    random = {"marker": "x", "ls": "", "ms": 7, "color": BASELINE_COLOUR, "label": "random weights"}
    left.barh(places, ranking["loss"], 0.6, color=colours)
    left.errorbar(ranking["loss"], places, xerr=INTERVAL * ranking["behind_error"], fmt="none", ecolor="k", capsize=3)
    left.plot(ranking["loss"] + ranking["gain"], places, **random)
    left.set_xlabel("squared error of left-out training images\n(interval: of the difference to the best)")
    right.barh(places, ranking["accuracy"], 0.6, color=colours)
    right.errorbar(
        ranking["accuracy"], places, xerr=INTERVAL * ranking["standard_error"], fmt="none", ecolor="k", capsize=3
    )
    right.plot(ranking["accuracy"] - ranking["accuracy_gain"], places, **random)
    right.plot(ranking["neighbours"], places, "o", ms=5, mfc="white", mec="k", label="nearest neighbours")
    right.set_xlim(0, 1)
    right.set_xlabel("accuracy on left-out training images\n(interval: of each by itself)")
    names = [f"{rank}. {drawable(name)}" for rank, name in zip(ranking["rank"], ranking["candidate"], strict=True)]
    left.set_yticks(places, names, parse_math=False)
    left.invert_yaxis()
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    for verdict, colour in RANK_COLOURS.items():
        if verdict in set(ranking["verdict"]):
            alone = len(ranking) == 1 and verdict == "as good as the best"
            right.barh(0, 0, color=colour, label="better than random weights" if alone else verdict)
    question = "Which source helps most" if len(ranking) > 1 else "Whether the source helps"
    figure.suptitle(f"{question} (shorter bars on the left are better)", fontsize=10)
    figure.legend(*right.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    return figure


def draw_confusion(confusion: pd.DataFrame) -> Figure:
    """Share of each true class that was predicted as each class; counts, and all names, where there is room."""
    counts = confusion[(PREDICTED + confusion["label"]).tolist()].to_numpy()
    names = [short_name(name) for name in confusion["label"]]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(12.0, 2.5 + 0.4 * len(names))
    named = range(0, len(names), math.ceil(len(names) / MOST_CLASSES_NAMED))
    tick_points = min(10.0, 0.95 * 72 * (size - 2) / len(named))  # so that the names of neighbours stay apart
    figure = new_figure(size, size * 0.92)
    axes = figure.subplots()
    # The square root makes rare confusions visible beside a diagonal near 1.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    upright = len(names) * max(map(len, names)) <= MOST_TICK_CHARACTERS
    rotation = 0 if upright else 45 if len(names) <= 30 else 90
    slanted: dict[str, Any] = {"rotation": rotation, "ha": "right" if rotation == 45 else "center"}
    shown = [names[place] for place in named]
    axes.set_xticks(named, shown, fontsize=tick_points, parse_math=False, **slanted)
    axes.set_yticks(named, shown, fontsize=tick_points, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= 20:
        for true, predicted in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[true, predicted] > 0.4 else "black"
            axes.text(predicted, true, counts[true, predicted], ha="center", va="center", color=colour, fontsize=8)
    images = counts.sum()
    axes.set_title(f"Confusion on {images:,} test image{'' if images == 1 else 's'}", fontsize=10)
    return figure


def draw_mistakes(images: ImageSet, predictions: pd.DataFrame, shown: int) -> Figure:
    """The most confident mistakes, each with its true class, the predicted one and its probability."""
    wrong = confident_mistakes(predictions, shown)
    titles = [
        f"{from_to(row['label'], row['predicted'])}\n{whole_percent(row['confidence'])} sure"
        for row in wrong.to_dict("records")
    ]
    most = "most confident mistake" if len(wrong) == 1 else f"{len(wrong)} most confident mistakes"
    heading = f"The {most} (true → predicted)" if len(wrong) else "No mistakes"
    return draw_sheet(images, wrong["id"], titles, heading)


def draw_sheet(images: ImageSet, ids: Iterable[str], titles: Sequence[str], heading: str) -> Figure:
    """Images in rows of eight, each with a title.

    Raises:
        ValueError: When an image is not in the set.
    """
    columns = 8
    lines = max(1, math.ceil(len(titles) / columns))
    room = TITLE_ROOM / 2 * max(2, 1 + max((title.count("\n") for title in titles), default=0))
    figure = new_figure(1.35 * columns, 1.35 * (1 + room) * lines + 0.5)
    grid = PictureGrid(figure, lines, columns, room)
    for place, (image, title) in enumerate(zip(images.pixels(images.rows_of(ids)), titles, strict=True)):
        grid.show(place // columns, place % columns, image, title)
    figure.suptitle(heading, fontsize=10)
    return figure


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """A figure outside pyplot: no global state, no window, nothing to close."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), dpi=110, layout="constrained")


def draw_words(text: str) -> Figure:
    """A line of text where there is nothing to draw."""
    figure = new_figure(5, 0.6)
    figure.suptitle(text, fontsize=10, parse_math=False)
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as an SVG element that takes the colours of the page it is put into: black becomes `currentColor`.

    Text stays text, the background is transparent, and the same figure always gives the same characters. It is laid out
    once, for whatever is drawn of it, and at its own resolution: letters of pictures are wider than those of an SVG.
    """
    from matplotlib import rc_context

    if figure.axes and (layout := figure.get_layout_engine()):
        layout.execute(figure)
    buffer = io.StringIO()
    # No engine at all, not "none", which stands for one that has done its work: with that every file is drawn twice.
    with rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "cnn_transfer", "svg.id": None}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)  # the page says how large it is
    svg = re.sub(r"(fill|stroke): #000000", r"\1: currentColor", svg)
    svg = re.sub(ESCAPED, _as_browsers_draw, svg)
    svg = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", _as_webp, svg)
    return svg.replace("fill: #ffffff; opacity: 0.8", "fill: none; opacity: 0.8")  # the frame of a legend


def _as_webp(embedded: re.Match[str]) -> str:
    """A large picture that matplotlib put into an SVG, as WebP; of few colours, such as cells of a table, exactly."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(embedded[1])))
    if max(picture.size) <= EXACT_PX:
        return embedded[0]
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=90, lossless=picture.getcolors(256) is not None)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _as_browsers_draw(escaped: re.Match[str]) -> str:
    """The character that `drawable` wrote in another way: browsers look for its font themselves."""
    character = chr(int(escaped[0][2:], 16))
    return character if character.isprintable() and drawable(character) == escaped[0] else escaped[0]


def drawable(text: str) -> str:
    r"""The text, in which characters that no font of matplotlib's settings can draw are written as \u72ac or \x07."""
    from matplotlib import font_manager, rcParams

    found = [font_manager.findfont(font_manager.FontProperties(family=[name])) for name in rcParams["font.family"]]
    fonts = [font_manager.get_font(file) for file in found]
    return "".join(
        character
        if character == "\n" or (character.isprintable() and any(font.get_char_index(ord(character)) for font in fonts))
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def short_name(name: object, most: int = MOST_NAME_CHARACTERS) -> str:
    """A name of at most so many characters, its beginning and its end, each of which a font can draw."""
    text = drawable(str(name))
    if len(text) <= most:
        return text
    half, parts = (most - 1) // 2, re.findall(rf"{ESCAPED}|.", text, re.DOTALL)
    end = _within(parts[::-1], half)[::-1]
    beginning = _within(parts, half) or _within(parts, most - 1 - len("".join(end)))
    return "".join([*beginning, "…", *end])


def _within(parts: list[str], most: int) -> list[str]:
    """The first parts, whole, of at most so many characters together."""
    return parts[: np.searchsorted(np.cumsum([len(part) for part in parts]), most, side="right")]


def from_to(label: object, predicted: object, most: int = MOST_TITLE_CHARACTERS) -> str:
    """True and predicted class above a picture: on one line of at most so many characters, or on two."""
    names = [short_name(name, most - 2) for name in (label, predicted)]
    return (" → " if len("".join(names)) + 3 <= most else "\n→ ").join(names)


def show_images(axes: np.ndarray | list[Axes], pixels: np.ndarray) -> None:
    """Show images in the first axes and hide the frames of all of them."""
    for axis in axes:
        axis.axis("off")
    for axis, image in zip(axes, pixels, strict=False):
        _show(axis, image)


def _show(axes: Axes, image: np.ndarray, **where: Any) -> None:
    picture = reduced(image, MOST_SHOWN_PX)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none", **where)  # as it is, in SVG as well


class PictureGrid:
    """Many pictures in one pair of axes; with axes of its own a picture takes five times as long to draw.

    Columns are 1 wide. Lines are 1 high and as much more as titles above the pictures need.
    """

    def __init__(self, figure: Figure, lines: int, width: float, title_room: float = 0.0) -> None:
        self.axes, self._height, self._room = figure.subplots(), 1 + title_room, title_room
        self._figure = figure
        self.axes.axis("off")
        self._bounds = (0, width), (self._height * lines, 0)

    def top(self, line: int) -> float:
        """Where the pictures of a line begin."""
        return line * self._height + self._room

    def show(self, line: int, left: float, image: np.ndarray, title: str = "", **style: Any) -> None:
        """Show an image, with a title above it."""
        top = self.top(line)
        _show(self.axes, image, extent=(left + 0.04, left + 0.96, top + 0.96, top + 0.04))
        if title:
            self.axes.text(left + 0.5, top, title, ha="center", va="bottom", **TITLE, **style)
        self.axes.set(xlim=self._bounds[0], ylim=self._bounds[1])  # each image sets its own

    def name(self, line: int, text: str) -> None:
        """Write the name of a line to the left of it."""
        # The layout makes room before the columns become as narrow as they are high, some pixels too little.
        self._figure.set_layout_engine("constrained", w_pad=0.15)
        middle = self.top(line) + 0.5
        self.axes.text(-0.1, middle, text, ha="right", va="center", fontsize=9, parse_math=False)
