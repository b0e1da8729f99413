"""The pages of the documentation, and the code in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))}
LANGUAGES = ("python", "sh", "console", "toml", "yaml", "text", "json")
FENCE = re.compile(r"(?:^<!-- not run: (?P<mark>.+?) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
HEREDOC = re.compile(r"<<-?'?(\w+)'?[^\n]*\n.*?^\1$", re.M | re.S)
OPERATORS = frozenset("();<>|&\n")


@dataclass(frozen=True)
class Block:
    """A fenced block. `not_run` says why it cannot be run; such a one is still read."""

    page: str
    line: int
    language: str
    code: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, *languages: str) -> list[Block]:
    """Those of a page in these languages; in all, where none is named."""
    text = PAGES[page].read_text()
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        block = Block(page, line, match["language"], match["code"], match["mark"])
        if not languages or block.language in languages:
            found.append(block)
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """The simple commands of a shell block, without redirections, assignments and the text of here-documents."""
    code = HEREDOC.sub("", block.code).replace("\\\n", " ")
    if block.language == "console":
        code = "\n".join(line.removeprefix("$ ") for line in code.splitlines() if line.startswith("$ "))
    code = re.sub(r"\d?>&\d", "", code)
    for line in code.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        words: list[str] = []
        redirected = False
        for token in lexer:
            if set(token) <= OPERATORS:
                redirected = token in (">", ">>", "<")
                if not redirected:
                    yield from _simple(words)
                    words = []
            elif redirected:
                redirected = False
            else:
                words.append(token)
        yield from _simple(words)


def _simple(words: list[str]) -> Iterator[list[str]]:
    while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] in ("export", "srun", "exec")):
        words = words[1:]
    if words:
        yield words


def headings(page: str) -> set[str]:
    """The anchors of a page, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```$", "", PAGES[page].read_text(), flags=re.M | re.S)
    return {slug(title) for title in re.findall(r"^#+ (.+)$", text, re.M)}


def slug(title: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def make_photos(folder: Path) -> None:
    """Run what the tutorial writes as photos.py, in the current folder."""
    (block,) = [block for block in blocks("tutorial.md", "sh") if "photos.py" in block.code]
    (code,) = re.findall(r"<<'END'\n(.*?)^END$", block.code, re.M | re.S)
    exec(code, {})
    assert len(list((folder / "photos").glob("digit*/*.png"))) == 1797
