"""The file tools' sandbox: nothing outside the workspace is read or written, whatever is tried."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_runtime_client import ToolRefused
from agent_runtime_client.errors import ToolFailed
from agent_runtime_client.tools.sandbox import Sandbox


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_text("secret")
    return directory


@pytest.fixture
def workspace(tmp_path: Path, outside: Path) -> Path:
    directory = tmp_path / "work"
    (directory / "in").mkdir(parents=True)
    (directory / "in" / "file").write_text("text")
    (directory / "to_file").symlink_to("in/file")
    (directory / "to_outside").symlink_to(outside)
    (directory / "to_inside").symlink_to("in")
    (directory / "dangling").symlink_to("nowhere")
    (directory / "loop").symlink_to("loop")
    os.mkfifo(directory / "pipe")
    return directory


@pytest.fixture
def sandbox(workspace: Path) -> Sandbox:
    return Sandbox(workspace)


def test_files_inside_are_read_and_written(sandbox: Sandbox, workspace: Path) -> None:
    assert sandbox.read(sandbox.parts("./in//file"), 100) == (b"text", 4)
    assert sandbox.read(sandbox.parts(f"{workspace}/in/file"), 2) == (b"te", 4)
    assert sandbox.write(sandbox.parts("a/b/c"), b"new", create_dirs=True)
    assert not sandbox.write(sandbox.parts("a/b/c"), b"newer", create_dirs=False)
    assert (workspace / "a/b/c").read_text() == "newer"


@pytest.mark.parametrize("path", ["../outside/secret", "in/../../outside/secret", "..", "in/..", "/etc/passwd", "a\0b"])
def test_paths_that_lead_out_are_refused(sandbox: Sandbox, path: str) -> None:
    with pytest.raises(ToolRefused, match=r"^path: "):
        sandbox.parts(path)


def test_a_neighbour_with_the_same_beginning_is_outside(sandbox: Sandbox, workspace: Path) -> None:
    with pytest.raises(ToolRefused, match="outside the workspace"):
        sandbox.parts(f"{workspace}-2/file")


@pytest.mark.parametrize("path", ["to_file", "to_outside/secret", "to_inside/file", "dangling", "loop", "to_outside"])
def test_links_are_never_followed(sandbox: Sandbox, outside: Path, path: str) -> None:
    parts = sandbox.parts(path)
    with pytest.raises(ToolRefused, match="symbolic link"):
        sandbox.read(parts, 100)
    with pytest.raises(ToolRefused, match="symbolic link"):
        sandbox.write(parts, b"x", create_dirs=True)
    with pytest.raises(ToolRefused, match="symbolic link"):
        sandbox.make_directory((*parts, "new"), parents=True)
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_pipes_are_refused_without_waiting(sandbox: Sandbox) -> None:
    for action in (lambda: sandbox.read(("pipe",), 1), lambda: sandbox.write(("pipe",), b"", create_dirs=False)):
        with pytest.raises(ToolRefused, match="not a regular file"):
            action()


@pytest.mark.parametrize(
    ("path", "why"),
    [("nothing", "does not exist"), ("in/file/x", "not a directory"), ("in", "is a directory"), (".", "directory")],
)
def test_what_cannot_be_read_is_named(sandbox: Sandbox, path: str, why: str) -> None:
    with pytest.raises(ToolFailed, match=why):
        sandbox.read(sandbox.parts(path), 10)


def test_permissions_of_a_replaced_file_stay(sandbox: Sandbox, workspace: Path) -> None:
    (workspace / "in/file").chmod(0o750)
    sandbox.write(("in", "file"), b"x", create_dirs=False)
    assert (workspace / "in/file").stat().st_mode & 0o777 == 0o750


def test_nothing_is_left_of_a_write_that_fails(sandbox: Sandbox, workspace: Path) -> None:
    with pytest.raises(ToolFailed):
        sandbox.write(("in", "x" * 300), b"x", create_dirs=False)
    assert [path.name for path in (workspace / "in").iterdir()] == ["file"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.sampled_from(["in", "file", "to_outside", "to_inside", "secret", "..", ".", "", "dangling", "new", "/"]),
        max_size=5,
    ).map("/".join)
)
def test_no_path_reaches_what_is_outside(sandbox: Sandbox, outside: Path, path: str) -> None:
    for act in (
        lambda parts: sandbox.write(parts, b"x", create_dirs=True),
        lambda parts: sandbox.make_directory(parts, parents=True),
        lambda parts: sandbox.read(parts, 100),
    ):
        try:
            act(sandbox.parts(path))
        except (ToolRefused, ToolFailed):
            continue
    assert (outside / "secret").read_text() == "secret"
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_directory_swapped_for_a_link_in_the_middle_of_a_write_leads_nowhere(
    sandbox: Sandbox, workspace: Path, outside: Path
) -> None:
    real, link, shown = workspace / "real", workspace / "link", workspace / "shown"
    real.mkdir()
    link.symlink_to(outside)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            real.rename(shown)
            shown.rename(real)
            link.rename(shown)
            shown.rename(link)

    swapper = threading.Thread(target=swap)
    swapper.start()
    written = refused = 0
    try:
        for _ in range(3000):
            try:
                sandbox.write(("shown", "file"), b"x", create_dirs=False)
                written += 1
            except (ToolRefused, ToolFailed):
                refused += 1
    finally:
        over.set()
        swapper.join()
    assert written + refused == 3000
    assert refused
    assert [path.name for path in outside.iterdir()] == ["secret"]
