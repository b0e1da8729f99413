"""The site: its navigation names every page, no link is dead, and what is built asks nothing of the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .pages import DOCS, PAGES, ROOT, headings

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def nav_pages(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    parts = entries.values() if isinstance(entries, dict) else entries
    return [page for part in parts for page in nav_pages(part)]


def test_the_navigation_names_each_page_once() -> None:
    named = nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(named) == sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_dead(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", PAGES[page].read_text(), flags=re.M | re.S)
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert target.exists(), f"{page}: {link} leads nowhere"
        if anchor:
            assert anchor in headings(target.name), f"{page}: {link}: there is no such heading"


def test_the_home_page_leads_to_every_other() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((DOCS / "index.md").read_text())}
    assert linked >= {path.name for path in DOCS.glob("*.md")} - {"index.md"}


def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed: pip install -e '.[docs]'")
    site = tmp_path / "site"
    build = (sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"))
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run([*build, "--site-dir", str(site)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    for path in PAGES.values():
        if path.parent == DOCS:
            assert (site / path.with_suffix(".html").name).is_file()
    for html in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?([^\"'\s>]+)", html.read_text())
        loaded += re.findall(r"<link\b[^>]*rel=[\"']?(?:stylesheet|preconnect|icon)\b[^>]*>", html.read_text())
        assert not [what for what in loaded if "//" in what], html.name
    for css in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", css.read_text()), css.name
