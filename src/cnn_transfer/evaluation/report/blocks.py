"""One self-contained HTML page from blocks: text, figures, tables; what a block says is no concern of this module.

A number stands in the page twice: as people read it, and in full in the attribute `data-value`, so that tables sort and
programs can read back what was shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pandas as pd

from cnn_transfer.evaluation.probabilities import confidence_text, part_text, share_text

if TYPE_CHECKING:
    from jinja2 import Environment

MISSING = "–"
TALL_ROWS = 25  # tables with more scroll in a frame of their own
SHORT_CHARACTERS = 22  # text up to here stays on one line
MOST_ROWS, MOST_CLASSES = 200, 1000  # rows of a table, of one with a row a class


@dataclass(frozen=True)
class Cell:
    """What stands in one place: text for people, the number in full, and its interval, as text and in full."""

    text: str
    value: float | None = None
    range: str = ""
    is_text: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def is_short(self) -> bool:
        """Whether it is text that stays on one line."""
        return self.is_text and len(self.text) <= SHORT_CHARACTERS


def words(value: Any) -> Cell:
    """Text as it is."""
    return Cell(MISSING if _is_missing(value) else str(value), is_text=True)


def _numeric(form: Callable[[float], str]) -> Callable[..., Cell]:
    def cell(value: Any, low: Any = None, high: Any = None) -> Cell:
        if _is_missing(value):
            return Cell(MISSING)
        if _is_missing(low) or _is_missing(high):
            return Cell(form(value), float(value))
        return Cell(form(value), float(value), f"{form(low)} to {form(high)}", low=float(low), high=float(high))

    return cell


share = _numeric(share_text)
part = _numeric(part_text)
# z: what rounds to zero has no minus
points = _numeric(lambda value: f"{100 * value:+z.1f}")
spread = _numeric(lambda value: f"{100 * value:.1f}")
amount = _numeric(lambda value: f"{value:.0f}" if value >= 10 else f"{value:.1f}")
gain = _numeric(lambda value: f"{value:+z.2f}")
count = _numeric(lambda value: f"{value:,.0f}")
decimal = _numeric(lambda value: f"{value:z.3f}")
general = _numeric(lambda value: f"{value:z.3g}")
confidence = _numeric(confidence_text)
seconds = _numeric(lambda value: f"{value:.1f}")
probability = _numeric(lambda value: f"{value:.4f}")


def truth(value: Any) -> Cell:
    """Yes or no."""
    return Cell(MISSING if _is_missing(value) else "yes" if value else "no", is_text=True)


class Column(NamedTuple):
    """One column of a table on the page: its place in the data, its heading, how its values are written."""

    key: str
    heading: str
    form: Callable[..., Cell] = words
    has_interval: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it holds text, which stands on the left."""
        return self.form in (words, truth)


class Row(NamedTuple):
    """One row of a table on the page."""

    cells: list[Cell]
    marked: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    soft: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Notice:
    """Something that must not be overlooked."""

    lines: Sequence[str]
    kind: ClassVar[str] = "notice"


class Tile(NamedTuple):
    """One key figure; `key` is its place in the summary of the run, or `source` the data set that holds it."""

    name: str
    cell: Cell
    note: str = ""
    key: str = ""
    source: str = ""


@dataclass(frozen=True)
class Tiles:
    """Key figures side by side."""

    tiles: Sequence[Tile]
    kind: ClassVar[str] = "tiles"


@dataclass(frozen=True)
class Picture:
    """A figure with a caption and, for those who cannot see it, a description."""

    name: str
    title: str
    svg: str
    caption: str
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Table:
    """A sortable table; `source` names the data sets that hold all of its numbers."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    source: str = ""
    left_out: str = ""
    kind: ClassVar[str] = "table"

    @property
    def is_tall(self) -> bool:
        """Whether it has so many rows that it scrolls in a frame of its own."""
        return len(self.rows) > TALL_ROWS


@dataclass(frozen=True)
class Code:
    """Text in which every space counts."""

    label: str
    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away."""

    summary: str
    blocks: Sequence[Any]
    kind: ClassVar[str] = "details"


@dataclass(frozen=True)
class Beside:
    """Blocks side by side where the page is wide enough."""

    blocks: Sequence[Any]
    kind: ClassVar[str] = "beside"


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    name: str
    title: str
    blocks: Sequence[Any] = field(default_factory=list)


def picture(name: str, svg: str, title: str, caption: str, description: str) -> Picture:
    """A figure as an element whose identifiers are its own.

    Args:
        name: Unique on the page.
        svg: The figure, as `as_svg` gives it.
        title: What it is, in a few words.
        caption: What to see in it.
        description: What it shows, for those who cannot see it.
    """
    from markupsafe import escape

    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    size = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    points_wide = f' style="--points: {float(size[1]):.0f}"' if size else ""  # the style sheet bounds the size of text
    label = f'<svg role="img" aria-label="{escape(description)}"{points_wide}'
    return Picture(name, title, svg.replace("<svg", label, 1), caption)


def table(
    name: str,
    frame: pd.DataFrame,
    columns: Sequence[Column],
    caption: str,
    source: str = "",
    marked: str = "",
    most_rows: int = MOST_ROWS,
) -> Table:
    """A data frame as a table of the page.

    Args:
        name: Unique on the page.
        frame: The data.
        columns: What is shown of it; those that it lacks are left out. One with an interval also reads `<key>_low`
            and `<key>_high`.
        caption: What it shows.
        source: Data set that holds it.
        marked: Column of booleans: rows that stand out.
        most_rows: What lies beyond is left out, and the caption says so.
    """
    columns = [column for column in columns if column.key in frame]
    rows = []
    for record in frame.head(most_rows).to_dict("records"):
        cells = []
        for column in columns:
            ends = (record[f"{column.key}_low"], record[f"{column.key}_high"]) if column.has_interval else ()
            cells.append(column.form(record[column.key], *ends))
        rows.append(Row(cells, bool(marked) and bool(record[marked])))
    left_out = f"The first {most_rows:,} of {len(frame):,} rows." if len(frame) > most_rows else ""
    return Table(name, caption, columns, rows, source, left_out)


def render(title: str, subtitle: str, verdict: dict[str, str], sections: Sequence[Section], footer: str) -> str:
    """The page.

    Args:
        title: What it is about.
        subtitle: A line below it.
        verdict: `kind` (`positive`, `neutral`, `negative`, `none`), `title` and `sentence`.
        sections: In their order.
        footer: The last line.
    """
    page = resources.files("cnn_transfer.evaluation.report") / "page"
    template = page_environment(autoescape=True).get_template("report.html.jinja")
    text = template.render(
        title=title,
        subtitle=subtitle,
        verdict=verdict,
        sections=sections,
        footer=footer,
        css=(page / "report.css").read_text(encoding="utf-8"),
        js=(page / "report.js").read_text(encoding="utf-8"),
    )
    return text.strip() + "\n"


def page_environment(autoescape: bool) -> Environment:
    """Where the templates of the project's pages are found; an unknown name in one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cnn_transfer.evaluation.report", "page"),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["whole_options"] = _whole_options
    return environment


def _whole_options(text: str) -> str:
    """Text as HTML in which no line ends within `--params`: browsers break after hyphens."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<!\S)--[\w-]+", r'<span class="option">\g<0></span>', str(escape(text))))


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
