"""Durable frames that the server has not confirmed yet, in the order they were given."""

from typing import Generic, TypeVar

from agent_runtime import v1

Frame = TypeVar("Frame", v1.ChatRequest, v1.HitlRequest)


class Outbox(Generic[Frame]):
    """Keeps each frame until its ack, or an event that proves it was committed."""

    def __init__(self) -> None:
        self._frames: dict[str, Frame] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: Frame) -> None:
        """Keep `frame`; it carries its frame_id."""
        if not frame.frame_id:
            raise ValueError("frame_id: a durable frame needs one")
        self._frames[frame.frame_id] = frame

    def pending(self) -> list[Frame]:
        """Return what must be sent (again) on a new stream, oldest first."""
        return list(self._frames.values())

    def holds(self, frame_id: str) -> bool:
        """Whether the frame is kept still."""
        return frame_id in self._frames

    def kind(self, frame_id: str) -> str:
        """Return the kind of a kept frame."""
        return self._frames[frame_id].WhichOneof("frame") or ""

    def on_ack(self, ack: v1.FrameAck) -> bool:
        """Let the frame go; False when it is not waited for."""
        return self._frames.pop(ack.frame_id, None) is not None

    def on_event(self, event: v1.SessionEvent) -> v1.FrameAck | None:
        """Return the ack that `event` stands for, when it was made by a kept frame."""
        if not event.frame_id or self._frames.pop(event.frame_id, None) is None:
            return None
        return v1.FrameAck(frame_id=event.frame_id, outcome=v1.FrameAck.OUTCOME_ACCEPTED, seq=event.seq)
