"""Answers to client frames."""

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, ServiceError
from agent_runtime_server.engine.session import Committed
from agent_runtime_server.rpc.status import told_delay


def accepted(frame_id: str, committed: Committed, lsn: str) -> v1.FrameAck:
    """Return the ack of a committed frame, with the position behind it."""
    outcome = v1.FrameAck.OUTCOME_DUPLICATE if committed.duplicate else v1.FrameAck.OUTCOME_ACCEPTED
    return v1.FrameAck(frame_id=frame_id, outcome=outcome, seq=committed.seq, lsn=lsn)


def rejected(frame_id: str, error: ServiceError) -> v1.FrameAck:
    """Return the ack of a frame that was not applied."""
    ack = v1.FrameAck(frame_id=frame_id, outcome=v1.FrameAck.OUTCOME_REJECTED, error=error.to_error())
    if (delay := told_delay(error)) is not None:
        ack.error.retry_delay.FromTimedelta(delay)
    return ack


def unsupported() -> CallerError:
    """Return the error of a frame whose kind this server does not know."""
    return CallerError(v1.ERROR_REASON_UNSUPPORTED_FRAME, "the frame is empty or of a kind this server does not know")


def hello_required(message: str) -> CallerError:
    """Return the error of a stream whose frames are out of order."""
    return CallerError(v1.ERROR_REASON_HELLO_REQUIRED, message)
