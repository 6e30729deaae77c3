"""The one tree of errors; its branches say what the caller can do about it.

ClientError
├── CallFailed               the server, or the way to it, ended an RPC with a status
│   ├── Unreachable          nobody answers there; trying again may help
│   ├── NotAllowed           the credentials are refused, or do not permit this
│   ├── SessionGone          the session does not exist, is not visible, or is closed
│   └── Superseded           another attachment took this chat's place; it must not come back by itself
├── Rejected                 one frame was refused; the stream lives on
├── ChatClosed               the chat or the review was closed by this side
├── JournalFailed            the journal of tool calls cannot be kept
├── ToolFailed               a local tool could not do what the call asks for
└── ToolRefused              a local tool will not do what the call asks for
"""

from collections.abc import Mapping

from agent_runtime import v1
from agent_runtime_client.status import Problem


class ClientError(Exception):
    """Whatever this library raises on purpose."""


class CallFailed(ClientError):
    """An RPC ended with a status that is not OK."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.describe())
        self.problem = problem

    @property
    def code(self) -> str:
        """The canonical status code, such as `NOT_FOUND`."""
        return self.problem.code.name

    @property
    def reason(self) -> str:
        """The contract's reason, such as `SESSION_NOT_FOUND`; empty when the server gave none."""
        return self.problem.reason

    @property
    def metadata(self) -> Mapping[str, str]:
        """The values that belong to the reason."""
        return self.problem.metadata


class Unreachable(CallFailed):
    """No server answers at the target, or it cannot serve now."""


class NotAllowed(CallFailed):
    """The credentials are refused, or do not permit this."""


class SessionGone(CallFailed):
    """The session does not exist, is not visible to the caller, or is closed."""


class Superseded(CallFailed):
    """Another attachment took this chat's place."""


class Rejected(ClientError):
    """The server refused one frame; the stream lives on."""

    def __init__(self, error: v1.Error) -> None:
        super().__init__(_describe(error))
        self.error = error

    @property
    def reason(self) -> str:
        """The contract's reason, such as `APPROVAL_ALREADY_RESOLVED`."""
        return self.error.reason


class ChatClosed(ClientError):
    """The chat or the review was closed by this side."""


class JournalFailed(ClientError):
    """The journal of tool calls cannot be opened or written."""


class ToolFailed(ClientError):
    """A local tool could not do what the call asks for; the text is for the model."""


class ToolRefused(ClientError):
    """A local tool will not do what the call asks for; the text is for the model."""


def call_failed(problem: Problem) -> CallFailed:
    """Return the error of the tree that fits `problem`."""
    if problem.reason in {"SESSION_NOT_FOUND", "SESSION_CLOSED"}:
        return SessionGone(problem)
    if problem.reason == "ATTACHMENT_SUPERSEDED":
        return Superseded(problem)
    return _BY_CODE.get(problem.code.name, CallFailed)(problem)


_BY_CODE: Mapping[str, type[CallFailed]] = {
    "UNAVAILABLE": Unreachable,
    "UNAUTHENTICATED": NotAllowed,
    "PERMISSION_DENIED": NotAllowed,
}


def _describe(error: v1.Error) -> str:
    fields = "; ".join(f"{field.field}: {field.description}" for field in error.field_violations)
    text = f"{error.reason}: {error.message}" if error.message else error.reason
    return f"{text} ({fields})" if fields else text
