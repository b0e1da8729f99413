"""Names from outside stay text in Markdown, as a parser of it reads them."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from nas_edge.report.markdown_text import plain, table

from ..dashboards import HOSTILE

READ = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@pytest.mark.parametrize("text", [*HOSTILE, "a_b *c* ~~d~~ &lt; #1 a\\|b", "| x |\n|---|\n- y", "$a$ `b``"])
def test_a_hostile_text_is_read_as_it_stands(text: str) -> None:
    html = READ.render("\n".join(table(("name", ">n"), [(plain(text), "1")])))
    for tag in ("<img", "<script", "<a ", "<em>", "<strong>", "<code>", "<s>"):
        assert tag not in html, html
    assert html.count("<tr>") == 2 and html.count("<td") == 2
    shown = html.split("<td")[1].split("</td>")[0].split(">", 1)[1]
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(entity, character)
    assert shown == " ".join(text.split())


def test_an_address_is_no_link() -> None:
    assert plain("see https://a.b, www.a.b, a@b.c") == "see https\\://a.b, www\\.a.b, a\\@b.c"
