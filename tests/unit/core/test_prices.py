"""What a call costs, by the table of prices."""

import pytest

from agent_runtime import v1
from agent_runtime_server.core.prices import Price, Prices

USAGE = v1.Usage(input_tokens=1000, output_tokens=100, cached_input_tokens=600)


@pytest.mark.parametrize(
    ("model", "micros"),
    [("large", 5000), ("large-2026", 5000), ("large-mini", 500), ("cached", 1260), ("other", 0)],
)
def test_a_price_is_found_by_how_the_models_name_begins(model: str, micros: int) -> None:
    prices = Prices({"large": Price(3, 20), "large-mini": Price(0.3, 2), "cached": Price(3, 0, 0.1)})
    assert prices.cost_micros(model, USAGE) == micros


def test_a_star_stands_for_every_other_model() -> None:
    assert Prices({"*": Price(1, 1)}).cost_micros("whatever", USAGE) == 1100


def test_prices_are_not_negative() -> None:
    with pytest.raises(ValueError, match="not below 0"):
        Price(-1, 0)
