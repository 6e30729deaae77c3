"""A server that only calls again, to compare with: `python -m chaoskit.plain_server serve …`.

What is switched off: circuit breakers with their probes, and the allowance that bounds retries. What stays is the
exponential backoff with full jitter and its longest wait; how long a step goes on calling, settings say.
"""

from agent_runtime_cli import main
from agent_runtime_server.llm.allowance import Allowance
from agent_runtime_server.llm.breaker import Breaker, Permit


async def _no_matter(self: Breaker, permit: Permit) -> None:
    """Draw no conclusion from a failure, so that the circuit stays closed."""


def _always(self: Allowance) -> bool:
    return True


if __name__ == "__main__":
    Breaker.failed = _no_matter  # type: ignore[method-assign] # that is what is compared with
    Allowance.spend = _always  # type: ignore[method-assign] # so is this
    main()
