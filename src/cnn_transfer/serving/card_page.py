"""The model card for people: its Markdown as a page of the service."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from markdown_it import MarkdownIt

PAGE = Path(__file__).parent / "page" / "card.html"
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")  # tags in names of classes are text

MARKDOWN.add_render_rule(
    "table_open", lambda *_: '<div class="wide" role="region" aria-label="Table" tabindex="0"><table>'
)
MARKDOWN.add_render_rule("table_close", lambda *_: "</table></div>")


def card_page(card: str) -> str:
    """HTML of a card in the form of the Hugging Face hub: YAML between two lines of `---`, then Markdown.

    Args:
        card: The whole file.
    """
    facts, body = "", card
    if card.startswith("---\n"):
        facts, _, body = card.removeprefix("---\n").partition("\n---\n")
    return Template(PAGE.read_text(encoding="utf-8")).substitute(card=MARKDOWN.render(body), facts=escape(facts))
