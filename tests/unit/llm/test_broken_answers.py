"""Broken answers of models, some thousand of them; `scripts/fuzz` reads more."""

from fuzzkit.answers import read_answers


def test_broken_answers_are_read_or_refused_however_they_are_cut() -> None:
    read = read_answers("broken", 1500)
    assert not read.findings
    assert min(read.endings[ending] for ending in ("answers", "ModelUnavailable", "ModelRejected")) > 5
