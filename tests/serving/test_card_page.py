from cnn_transfer.serving.card_page import card_page

CARD = """---
license: mit
tags: [<b>]
---

# A <script>alert(1)</script> b

| class | recall |
|---|---|
| <img src=x> | 99% |

[out](javascript:alert(1))
"""


def test_a_card_is_a_page_with_its_table_and_its_facts():
    page = card_page(CARD)
    assert "<td>99%</td>" in page
    assert "license: mit\ntags: [&lt;b&gt;]</pre>" in page
    assert "---" not in page


def test_names_of_classes_are_text_whatever_they_are():
    page = card_page(CARD)
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;img src=x&gt;" in page
    assert "<script" not in page
    assert 'href="javascript' not in page


def test_a_card_without_facts_is_shown_as_it_is():
    assert "<h1>Mine</h1>" in card_page("# Mine")
