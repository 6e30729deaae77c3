"""The scripts that set a checkout up, as far as it goes without installing anything."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, on a checkout of its own."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "scripts" / "bootstrap.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").touch()
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", venv)
    monkeypatch.setattr(module, "PYTHON", venv / "bin" / "python")
    locks = {"run": tmp_path / "requirements.lock", "dev": tmp_path / "requirements-dev.lock"}
    monkeypatch.setattr(module, "LOCKS", locks)
    return module


def installed(bootstrap: ModuleType, mode: str) -> None:
    bootstrap.stamp(mode).write_text(bootstrap.digest(mode))


def test_what_is_installed_is_not_installed_again(bootstrap: ModuleType) -> None:
    assert not bootstrap.is_installed("run")
    installed(bootstrap, "run")
    assert bootstrap.is_installed("run")
    assert not bootstrap.is_installed("dev")


def test_what_the_tests_need_covers_what_the_programs_need(bootstrap: ModuleType) -> None:
    installed(bootstrap, "dev")
    assert bootstrap.is_installed("run")


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_a_change_of_what_was_installed_asks_for_it_again(bootstrap: ModuleType, changed: str) -> None:
    installed(bootstrap, "run")
    (bootstrap.ROOT / changed).write_text("changed")
    assert not bootstrap.is_installed("run")


def test_a_python_without_venv_is_told_the_package_to_install(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bootstrap.VENV / "bin" / "python").unlink()
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda _name: None)
    with pytest.raises(bootstrap.CannotInstall, match=r"apt install python3\.\d+-venv"):
        bootstrap.make_venv()


def test_an_environment_made_for_another_checkout_is_made_anew(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[object, ...]] = []

    def call(*command: object) -> bool:
        made.append(command)
        return True

    monkeypatch.setattr(bootstrap, "call", call)
    bootstrap.make_venv()
    assert not made
    (bootstrap.VENV / ".checkout").write_text("/elsewhere")
    bootstrap.make_venv()
    assert "--clear" in made[0]


def test_without_a_new_enough_python_the_text_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "bootstrap"
    script.write_bytes((ROOT / "scripts" / "bootstrap").read_bytes())
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dirname").symlink_to("/usr/bin/dirname")
    (tools / "python3").write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.2\n")
    (tools / "python3").chmod(0o755)
    said = subprocess.run(["/bin/bash", script, "run"], env={"PATH": str(tools)}, capture_output=True, text=True)
    assert said.returncode == 1
    assert "Python 3.11 or newer is needed" in said.stderr
    assert "Python 3.9.2" in said.stderr


def test_a_mode_that_is_unknown_is_refused() -> None:
    said = subprocess.run([ROOT / "scripts" / "bootstrap", "fly"], capture_output=True, text=True)
    assert said.returncode != 0
    assert "usage: scripts/bootstrap run|dev" in said.stderr
