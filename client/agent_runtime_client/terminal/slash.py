"""The commands of the chat that begin with a slash."""

from dataclasses import dataclass

HELP = """\
/agent NAME   put another agent in charge (orchestrator, coder, architect, debug, ask, …)
/agents       who there is
/steer TEXT   tell the agents at their next step, without stopping them
/now TEXT     stop the running turn and do this instead
/cancel       stop the running turn (Ctrl-C does the same; twice leaves)
/sessions     list sessions; come back to one with `agent-runtime chat --session ID`
/quit         leave; the session stays (Ctrl-D does the same)
/help         this text
Anything else is said to the agents. While a turn runs it waits for its turn to come."""


@dataclass(frozen=True)
class Slash:
    """One command with its argument."""

    name: str
    argument: str = ""


class BadSlash(Exception):
    """The line is no command; the message says why."""


_WITH_ARGUMENT = {"agent": "a name, such as `/agent coder`", "steer": "what to say", "now": "what to say"}
_ALONE = {"agents", "cancel", "sessions", "quit", "exit", "help"}


def parse_slash(line: str) -> Slash | None:
    """Read a command; None when the line is something to say."""
    if not line.startswith("/") or line.startswith("//"):
        return None
    name, _, argument = line[1:].partition(" ")
    argument = argument.strip()
    if name in _WITH_ARGUMENT and not argument:
        raise BadSlash(f"/{name} needs {_WITH_ARGUMENT[name]}")
    if name in _ALONE and argument:
        raise BadSlash(f"/{name} takes nothing more")
    if name not in _WITH_ARGUMENT.keys() | _ALONE:
        # A path such as /etc/hosts at the start of a message is no command.
        if "/" in name:
            return None
        raise BadSlash(f"there is no /{name}; see /help")
    return Slash("quit" if name == "exit" else name, argument)
