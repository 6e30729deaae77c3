"""The journal of tool calls, through crashes at any byte."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_client import Journal, JournalFailed
from agent_runtime_client.records import Entry

DONE = v1.ToolResult(call_id="c1", status=v1.ToolResult.STATUS_SUCCEEDED, content=[v1.Part(text="é")])


def only_file(journal: Journal) -> Path:
    (path,) = journal.directory.glob("*.calls")
    return path


def test_entries_outlive_the_process(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        assert journal.entry("s", "c1") is None
        begun = journal.start("s", "c1")
        ended = journal.finish("s", DONE)
        journal.start("s", "c2")
        journal.start("other", "c1")
        journal.forget("s", "c2")
    assert begun.start_frame == ended.start_frame
    with Journal.open(tmp_path) as journal:
        assert journal.entry("s", "c1") == ended
        assert ended.result == DONE
        assert journal.entry("s", "c2") is None
        other = journal.entry("other", "c1")
        assert other is not None
        assert other.result is None


def test_a_start_repeated_keeps_its_frame_id(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        assert journal.start("s", "c1") == journal.start("s", "c1")


def test_a_restarted_client_is_the_same_and_a_second_one_another(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as first, Journal.open(tmp_path) as second:
        assert first.client_id != second.client_id
        names = first.client_id, second.client_id
    with Journal.open(tmp_path) as again:
        assert again.client_id == names[0]


def test_the_journal_that_knows_the_session_is_taken_first(tmp_path: Path) -> None:
    with Journal.open(tmp_path), Journal.open(tmp_path) as second:
        second.start("mine", "c1")
        client_id = second.client_id
    with Journal.open(tmp_path, session_id="mine") as again:
        assert again.client_id == client_id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(lost=st.integers(1, 400), noise=st.binary(max_size=8))
def test_a_torn_write_costs_only_what_was_not_complete(tmp_path: Path, lost: int, noise: bytes) -> None:
    with Journal.open(tmp_path) as journal:
        journal.start("s", "c0")
        whole = only_file(journal).stat().st_size
        journal.start("s", "c1")
        journal.finish("s", DONE)
        path = only_file(journal)
        data = path.read_bytes()
        path.write_bytes(data[: max(len(data) - lost, whole)] + noise)
    with Journal.open(tmp_path) as journal:
        assert journal.entry("s", "c0") is not None
        found = journal.entry("s", "c1")
        assert found is None or found.result in (None, DONE)
        ended = journal.finish("s", DONE)
    with Journal.open(tmp_path) as journal:
        assert journal.entry("s", "c1") == ended
        only_file(journal).unlink()


def test_a_line_with_a_wrong_checksum_is_skipped(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.start("s", "c1")
        path = only_file(journal)
        path.write_bytes(path.read_bytes().replace(b"c1", b"c2"))
    with Journal.open(tmp_path) as journal:
        assert journal.entry("s", "c2") is None


def test_a_long_journal_with_nothing_open_is_emptied(tmp_path: Path) -> None:
    big = v1.ToolResult(call_id="c1", content=[v1.Part(text="x" * 100_000)])
    with Journal.open(tmp_path) as journal:
        journal.finish("s", big)
        journal.forget("s", "c1")
        assert only_file(journal).stat().st_size == 0
        assert journal.start("s", "c2") == journal.entry("s", "c2")


def test_old_sessions_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_runtime_client.journal._MOST_SESSIONS", 3)
    with Journal.open(tmp_path) as journal:
        for number in range(6):
            journal.start(f"s{number}", "c")
    with Journal.open(tmp_path) as journal:
        assert len(list(journal.directory.glob("*.calls"))) == 3


def test_it_lies_in_the_users_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Journal.for_workspace(tmp_path / "work") as journal:
        assert journal.directory.is_relative_to(tmp_path / "state")


def test_it_lies_elsewhere_when_that_is_inside_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Journal.for_workspace(tmp_path) as journal:
        assert not journal.directory.is_relative_to(tmp_path)


def test_no_journal_fits_outside_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JournalFailed, match="outside the workspace"):
        Journal.for_workspace(Path("/"))


def test_a_place_that_others_can_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "agent-runtime").mkdir()
    (tmp_path / "agent-runtime").chmod(0o777)
    with pytest.raises(JournalFailed, match="written by others"):
        Journal.for_workspace(tmp_path / "work")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalFailed, match="Not a directory"):
        Journal.open(tmp_path / "file" / "journal")


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.close()
    with pytest.raises(JournalFailed, match="closed"):
        journal.start("s", "c1")


def test_an_entry_has_no_result_until_it_is_finished() -> None:
    assert Entry("f").result is None
