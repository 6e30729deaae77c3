"""What ends a command: a sentence for the user and an exit status."""

from enum import IntEnum

from agent_runtime_client import ClientError, Unreachable


class Exit(IntEnum):
    """Exit statuses of the terminal programs."""

    OK = 0
    FAILED = 1
    USAGE = 2
    WAITING_FOR_USER = 3
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command cannot go on; the message is one clear line."""

    def __init__(self, message: str, status: int = Exit.FAILED) -> None:
        super().__init__(message)
        self.status = status


def explain(error: Exception, target: str = "") -> CommandFailed:
    """Say an error of the client library in words of the terminal."""
    if isinstance(error, CommandFailed):
        return error
    if isinstance(error, Unreachable):
        where = f" at {target}" if target else ""
        return CommandFailed(
            f"no agent runtime can be reached{where} ({error.problem.message or error.code}); "
            "start one with `agent-runtime serve`, or name another with --target HOST:PORT"
        )
    if isinstance(error, ClientError):
        return CommandFailed(str(error))
    return CommandFailed(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
