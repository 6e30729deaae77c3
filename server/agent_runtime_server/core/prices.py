"""What models cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent_runtime import v1

ANY: Final = "*"
"""The name in a price table that stands for every other model."""


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a million tokens, in any currency."""

    input: float
    output: float
    cached_input: float | None = None  # unset they cost as much as others

    def __post_init__(self) -> None:
        if min(self.input, self.output, self.cached_input or 0) < 0:
            raise ValueError("a price is not below 0")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model, or by how its name begins."""

    by_model: Mapping[str, Price] = field(default_factory=dict)

    def cost_micros(self, model: str, usage: v1.Usage) -> int:
        """Return what a call cost in millionths; 0 where no price is known."""
        price = self._price(model)
        if price is None:
            return 0
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        cached_price = price.input if price.cached_input is None else price.cached_input
        # A price of a million tokens is that of one in millionths.
        return round(
            (usage.input_tokens - cached) * price.input + cached * cached_price + usage.output_tokens * price.output
        )

    def _price(self, model: str) -> Price | None:
        fitting = [name for name in self.by_model if name != ANY and model.startswith(name)]
        return self.by_model.get(max(fitting, key=len, default=ANY))
