"""The answer to a question with numbered options."""

from dataclasses import dataclass

from agent_runtime import v1


@dataclass(frozen=True)
class Reply:
    """What is sent: words, and the options they stand for."""

    text: str
    option_ids: tuple[str, ...] = ()


def reply_to(question: v1.Question, line: str) -> Reply:
    """Read a number as the option it names, and anything else as free text."""
    words = line.strip()
    if words.isdecimal() and 1 <= int(words) <= len(question.options):
        option = question.options[int(words) - 1]
        return Reply(option.label or option.option_id, (option.option_id,))
    return Reply(words)
