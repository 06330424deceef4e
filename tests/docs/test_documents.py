"""The documents: a map that has them all, links that lead somewhere, a citation and badges that are true."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.performance.service import ROOT

MAP = ROOT / "docs" / "README.md"
BADGE = re.compile(r"\[!\[([^]]+)\]\(([^)]+)\)\]\(([^)]+)\)")
ELSEWHERE = ("../../actions/",)
"""Links that lead somewhere where the repository is hosted."""
UNLISTED = frozenset((".github", "node_modules"))
"""Folders whose documents are for others than readers."""
DOCUMENTS = sorted(
    path
    for folder in (
        ROOT,
        *(path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")),
    )
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
    if not UNLISTED.intersection(path.relative_to(ROOT).parts)
)


def links(document: Path) -> list[str]:
    """The links of a document, and its pictures, but for those in code."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"\]\(([^()\s]+)\)", text)


def targets(document: Path) -> set[Path]:
    """The files and folders that a document links to, where they ought to be."""
    relative = (link for link in links(document) if not urlsplit(link).scheme and not link.startswith("#"))
    inside = (link for link in relative if not link.startswith(ELSEWHERE))
    return {(document.parent / unquote(urlsplit(link).path)).resolve() for link in inside}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert [str(path) for path in sorted(targets(document)) if not path.exists()] == []


def test_the_map_has_every_document_once() -> None:
    assert targets(MAP) >= set(DOCUMENTS) - {MAP}
    listed = [link for link in links(MAP) if link != "../README.md"]
    assert len(set(listed)) == len(listed)
    assert MAP in targets(ROOT / "README.md")


def test_every_example_has_a_line() -> None:
    examples = MAP.parent / "examples"
    there = {path for path in examples.iterdir() if path.name != "README.md"}
    linked = targets(examples / "README.md")
    assert [path.name for path in there if not any(path in (link, *link.parents) for link in linked)] == []


def newest_release() -> tuple[str, str]:
    """The version and date of the newest release in the changelog."""
    found = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_citation_is_one_and_of_the_newest_release() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.citation-file-format"]
    checked = subprocess.run([*check, "CITATION.cff"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    citation = yaml.safe_load(read("CITATION.cff"))
    assert (citation["version"], str(citation["date-released"])) == newest_release()
    (author,) = citation["authors"]
    assert author["name"] in read("LICENSE")


def test_badges_are_true() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    badges = {text: (image, link) for text, image, link in BADGE.findall(read("README.md"))}
    least = project["requires-python"].removeprefix(">=")
    assert set(badges) == {"CI", f"Python {least} or newer", "Code: MIT", "Weights: research only"}
    image, _ = badges[f"Python {least} or newer"]
    assert unquote(image) == f"https://img.shields.io/badge/python-\N{GREATER-THAN OR EQUAL TO}_{least}-blue"
    assert project["license"].startswith("MIT AND ")
    assert read(badges["Code: MIT"][1]).startswith("MIT License")
    assert "research" in read(badges["Weights: research only"][1])
    image, link = badges["CI"]
    assert image == f"{link}/badge.svg"
    assert (ROOT / ".github" / "workflows" / link.rpartition("/")[2]).is_file()
