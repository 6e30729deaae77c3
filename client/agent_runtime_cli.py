"""`agent-runtime`: finds its commands among the installed entry points and runs one.

It stands by itself, so that nothing has imported gRPC when a command sets what that reads from the environment.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Final

from cyclopts import App, CycloptsError

GROUP: Final = "agent_runtime.commands"
_PROGRAM: Final = "agent-runtime"
_FAILED: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130
# Probes read a status of 2 as "no connection".
_OWN_USAGE_STATUS: Final[Mapping[str, int]] = {"health": 1}
_SERVER_PACKAGE: Final = "agent_runtime_server"
_HELP: Final = (
    "Coding agents as a service, and the terminal programs to talk to them.\n\n"
    "`agent-runtime run` starts everything here and opens a chat in the current directory."
)


class Unavailable(Exception):
    """A command cannot be loaded; the message says what to install."""


def main() -> None:
    """Run the program with the arguments of the process."""
    # gRPC's own notes are not for people at a terminal.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command line; the exit status. Whatever goes wrong is one line on standard error."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    name = argv[0] if argv and argv[0] in found else ""
    label = f"{_PROGRAM} {name}".strip()
    try:
        result = _app(found, name)(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except Unavailable as error:
        return _fail(label, str(error), _FAILED)
    except CycloptsError as error:
        return _fail(label, _one_line(str(error)), _OWN_USAGE_STATUS.get(name, _USAGE), advice=True)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has seen enough; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:  # noqa: BLE001 - the last resort of a program: a sentence, not a traceback
        return _fail(label, *_said(error))
    return result if isinstance(result, int) else 0


def _app(found: Mapping[str, EntryPoint], name: str) -> App:
    """The program with the one command that is meant, or with all of them for the overview."""
    app = App(name=_PROGRAM, help=_HELP, version=_version, version_flags=["--version"], help_format="markdown")
    for entry in [found[name]] if name else sorted(found.values(), key=lambda entry: entry.name):
        try:
            app.command(_load(entry), name=entry.name)
        except Unavailable as error:
            if name:
                raise
            app.command(_missing(str(error)), name=entry.name)
    return app


def _load(entry: EntryPoint) -> Callable[..., object]:
    try:
        command: Callable[..., object] = entry.load()
    except ModuleNotFoundError as error:
        raise Unavailable(_what_to_install(entry, error)) from error
    return command


def _what_to_install(entry: EntryPoint, error: ModuleNotFoundError) -> str:
    package = entry.module.partition(".")[0]
    if (error.name or "").partition(".")[0] == package:
        return f"this installation lacks {error.name}; install agent-runtime again"
    if package == _SERVER_PACKAGE:
        return f"needs the server parts ({error.name} is missing): pip install 'agent-runtime[server,embedded]'"
    return f"needs the Python package {error.name}, which is not installed"


def _missing(why: str) -> Callable[[], object]:
    def command() -> object:
        raise Unavailable(why)

    command.__doc__ = f"({why})"
    return command


def _said(error: Exception) -> tuple[str, int]:
    status = getattr(error, "status", None)
    if os.environ.get("AGENT_RUNTIME_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(status, int):
        return str(error), status
    inner: BaseException = error
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__, _FAILED


def _fail(label: str, message: str, status: int, *, advice: bool = False) -> int:
    more = f" (see {label} --help)" if advice else ""
    print(f"{label}: {_one_line(message)}{more}", file=sys.stderr)  # noqa: T201 - the program's voice
    return status


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _version() -> str:
    try:
        return version("agent-runtime")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    main()
