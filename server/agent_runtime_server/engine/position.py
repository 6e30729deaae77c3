"""Where in a log a reader may stand."""

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError


def check_position(oldest: int, head: int, after_seq: int) -> None:
    """Refuse to replay from beyond the log, or from what is compacted."""
    if after_seq > head:
        message = f"after_seq {after_seq} is ahead of the log, which ends at {head}; is this the right environment?"
        raise CallerError(v1.ERROR_REASON_SEQ_AHEAD_OF_LOG, message, metadata=_metadata(oldest, head))
    if after_seq + 1 < oldest:
        raise compacted(oldest, head)


def compacted(oldest: int, head: int) -> CallerError:
    """Return what a reader is told whose next event is gone."""
    message = f"events before {oldest} are compacted; call GetSession and go on with after_seq {oldest - 1}"
    return CallerError(v1.ERROR_REASON_SEQ_COMPACTED, message, metadata=_metadata(oldest, head))


def not_found(session_id: str) -> CallerError:
    """Return what is told of a session that is not there, or not any more."""
    return CallerError(v1.ERROR_REASON_SESSION_NOT_FOUND, f"there is no session {session_id}")


def _metadata(oldest: int, head: int) -> dict[str, str]:
    return {"oldestSeq": str(oldest), "headSeq": str(head)}
