"""A reviewer as a program of its own: `python -m killkit.reviewer TARGET RECORDS SILENCE`.

It decides whatever is asked, over whatever befalls its stream.
"""

import asyncio
import sys
import zlib
from pathlib import Path
from typing import Final

from agent_runtime import v1
from agent_runtime_client import ClientError, Rejected, Review, Timing
from killkit.client import until_told
from killkit.records import Recorder, What
from killkit.wire import recorded_client

_ONE_IN: Final = 12
"""One call in so many is rejected."""
_RETRY_SECONDS: Final = 0.5


async def main(target: str, records: Path, timing: Timing) -> None:
    """Decide until standard input ends."""
    async with asyncio.TaskGroup() as tasks:
        deciding = tasks.create_task(_review(target, timing, Recorder(records)))
        await until_told(asyncio.Event())
        deciding.cancel()


async def _review(target: str, timing: Timing, recorder: Recorder) -> None:
    while True:
        try:
            async with (
                recorded_client(target, timing, recorder) as client,
                client.review(client_id="reviewer") as review,
                asyncio.TaskGroup() as tasks,
            ):
                async for update in review:
                    if isinstance(update, v1.Approval) and update.state == v1.APPROVAL_STATE_PENDING:
                        tasks.create_task(_decide(review, update))
        except* ClientError:
            recorder.note(What.GAVE_UP)
        await asyncio.sleep(_RETRY_SECONDS)


async def _decide(review: Review, approval: v1.Approval) -> None:
    rejects = zlib.crc32(approval.tool_call.call_id.encode()) % _ONE_IN == 0
    verdict = v1.APPROVAL_VERDICT_REJECT if rejects else v1.APPROVAL_VERDICT_APPROVE
    while True:
        try:
            await review.decide(approval, verdict)
        except Rejected as refused:
            if not refused.error.HasField("retry_delay"):
                return  # decided already, or not wanted any more
            await asyncio.sleep(_RETRY_SECONDS)
        except ClientError:
            return  # the review is over; the next one is told of what is still open
        else:
            return


if __name__ == "__main__":
    dials = Timing(ping_seconds=2, silence_seconds=float(sys.argv[3]), call_seconds=5)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), dials))
