"""Real crontabs from public repositories and packages, where they are at hand."""

import csv
import os
from pathlib import Path

import pytest

CORPUS = Path(os.environ.get("NANOEXEC_CRONTABS", Path(__file__).parents[4] / "shared/crontabs"))


@pytest.fixture
def corpus() -> list[tuple[str, bytes, bool]]:
    """The name and the bytes of each, and whether it has a user column."""
    if not CORPUS.is_dir():
        pytest.skip(f"no collection of crontabs at {CORPUS}: set NANOEXEC_CRONTABS")
    with (CORPUS / "manifest.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [(row["file"], (CORPUS / row["file"]).read_bytes(), row["format"] == "system") for row in rows]
