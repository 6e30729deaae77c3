# ruff: noqa: RUF001 -- Cyrillic letters are meant as such
"""The words that tell which outcome a message asks for, in English and Russian.

A phrase is written as it is read: `*` stands for the rest of a word, `…` for a few words, ` | ` parts the phrases.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Cue:
    """A pattern, in lower case, that speaks for an agent."""

    agent_id: str
    weight: float
    pattern: re.Pattern[str]


def _alternatives(phrases: str) -> str:
    found = (re.escape(" ".join(phrase.split())) for phrase in phrases.split(" | "))
    return "|".join(phrase.replace(r"\*", r"\w*").replace("…", ".{1,60}?") for phrase in found)


def _anywhere(agent_id: str, weight: float, phrases: str) -> Cue:
    return Cue(agent_id, weight, re.compile(rf"(?<!\w)(?:{_alternatives(phrases)})(?!\w)"))


def _opening(agent_id: str, weight: float, phrases: str) -> Cue:
    return Cue(agent_id, weight, re.compile(rf"^{_POLITE}(?:{_alternatives(phrases)})(?!\w)"))


def _clause(agent_id: str, weight: float, phrases: str) -> Cue:
    pattern = rf"[,;.:—-] *(?:{_alternatives(_JOINING)})? *(?:{_alternatives(phrases)})(?!\w)"
    return Cue(agent_id, weight, re.compile(pattern))


_JOINING: Final = "please | then | and | so | just | и | а | так что | пожалуйста | просто"
_POLITENESS: Final = (
    "please | pls | could you | could u | can you | can u | would you | i want you to | i need you to | let's | lets | "
    "now | ok | okay | hey | hi | hello | also | then | "
    "and | so | but | just | well | пожалуйста | плиз | давай | теперь | "
    "можешь | можете | сможешь | надо | нужно | а | и | но | ну | ещё | еще | тогда | просто | привет"
)
_POLITE: Final = rf"(?:(?:{_alternatives(_POLITENESS)})[,!.]?\s+)*"

_CHANGE: Final = (
    "add | implement | write | create | rename | refactor | "
    "fix | correct | remove | delete | update | change | replace | "
    "run | install | make | move | convert | bump | upgrade | downgrade | extract | split | merge | wire | use | put | "
    "set | enable | disable | generate | format | migrate | port | rewrite | let | drop | check in | commit | switch | "
    "expose | handle | support | wrap | cache | log | hide | show | sort | limit | translate | build | configure | "
    "apply | revert | clean up | inline | pin | swap | allow | return | deploy | start | stop | repair | mock | cast | "
    "добав* | реализу* | напиши* | созда* | переимену* | отрефактор* | исправ* | поправ* | почини* | удали* | убери* | "
    "обнови* | измени* | замени* | поменяй* | запусти* | установи* | сделай* | перенеси* | переведи* | подними* | "
    "вынеси* | раздели* | объедини* | подключи* | включи* | отключи* | выключи* | сгенерируй* | отформатируй* | "
    "перепиши* | закоммить* | прогони* | собери* | настрой* | допиши* | внеси* | поставь* | оберни* | вставь* | "
    "покрой* | пропиши* | откати* | разбей* | увеличь* | уменьши* | скрой* | ограничь* | заведи* | используй* | пусть"
)

GO_AHEAD: Final = re.compile(
    rf"^{_POLITE}(?:"
    + _alternatives(
        "approved | agreed | go ahead | go for it | do it | "
        "do that | do so | ship it | sounds good | looks good | lgtm | "
        "yes | yep | proceed | begin | start | fix it | fix this | fix that | repair it | repair that | build it | "
        "implement it | the plan is fine | делай | сделай | одобряю | "
        "одобрено | согласен | согласна | согласовано | да | "
        "поехали | погнали | почини | исправь | чини | "
        "реализуй | принято | утверждаю | утверждено | годится | подходит | "
        "приступай | начинай | план годится | всё устраивает | все устраивает"
    )
    + r")(?!\w)"
)
BARE_WHY: Final = re.compile(rf"{_POLITE}(?:why|how come|почему|отчего|зачем)(?: (?:so|that|is that|так|это))?[\s?!.]*")

CUES: Final = (
    _opening("coder", 2.5, _CHANGE),
    _clause("coder", 1.5, _CHANGE),
    _anywhere("coder", 1, "unit test* | docstring* | readme | changelog | type hints | endpoint* | button"),
    _anywhere("coder", 1, "юнит-тест* | тесты | докстринг* | ридми | ченджлог* | эндпоинт* | кнопк*"),
    _anywhere("coder", 1.5, "should also | instead of | should go through | must be | has to be | needs to be"),
    _anywhere("coder", 1.5, "должн* быть | должна | должен | вместо"),
    _opening("architect", 2, "design | plan | outline | model | define | propose | recommend | compare"),
    _anywhere("architect", 3, "architect | architecture | adr | rfc for | diagram | roadmap | proposal | blueprint"),
    _anywhere("architect", 3, "design | spec | specification | trade-off* | tradeoff* | plan for | plan to | a plan"),
    _anywhere("architect", 3.5, "should we | should our | do we need | we should | should be split | which … should"),
    _anywhere("architect", 3, "how do we | how could we | decide between | decide on | a decision | pros and cons"),
    _anywhere(
        "architect", 2.5, "recommend* | compare and | comparison | strategy | options for | alternatives | risks"
    ),
    _anywhere("architect", 2, "approach | structure | layout | responsibilities | scalable | boundaries | big picture"),
    _anywhere(
        "architect", 1.5, "services | microservice* | topology | capacity | data model | requirements | multi-tenant"
    ),
    _anywhere("architect", 3, "спроектир* | архитектур* | диаграмм* | спецификац* | предложи* | проектн* | дорожн*"),
    _anywhere(
        "architect", 3, "план | плана | планы | распланируй* | спланируй* | продумай* | подумай* | взвесь | сравни и"
    ),
    _anywhere(
        "architect", 3, "что выбрать | что лучше | как лучше | стоит ли | нужен ли нам | нужна ли нам | … выбрать"
    ),
    _anywhere(
        "architect", 2, "стратеги* | подход* | схем* | вариант* | структур* | требования | границы | риски | дизайн*"
    ),
    _opening(
        "debug", 2.5, "debug | investigate | diagnose | find out | analyse | analyze | отлад* | исследуй* | найди"
    ),
    _anywhere(
        "debug", 3, "why is | why are | why does | why do | why did | why isn't | why doesn't | why don't | why was"
    ),
    _anywhere(
        "debug", 3, "find out why | root cause | track down | figure out why | what is the cause | what went wrong"
    ),
    _anywhere("debug", 3, "what's causing | what causes | the cause of | the reason for | tell me why | what is wrong"),
    _anywhere(
        "debug", 2.5, "traceback | stack trace | stacktrace | panic | segfault | core dumped | sigsegv | exit code *"
    ),
    Cue("debug", 2.5, re.compile(r"\w*(?:error|exception)\b *[:(]|\bfatal:|undefined (?:symbol|reference)|caused by:")),
    Cue("debug", 2.5, re.compile(r"\n\s+at \S+\(|expected: .{1,40} but was|\b[45]\d\d\b.{0,20}\bfor\b|error\[")),
    _anywhere("debug", 2, "fail | fails | failing | failed | crash* | broken | hang | hangs | stuck | leak* | freezes"),
    _anywhere("debug", 2, "doesn't work | not working | does not work | stopped | can't connect | wrong | nan | stale"),
    _anywhere(
        "debug", 1.5, "error* | slow* | timeout | times out | bug | flaky | sometimes | suddenly | still | blurry"
    ),
    _anywhere(
        "debug", 1.5, "no longer | but nothing | returns null | returns empty | disappear* | twice | only when | jumps"
    ),
    _anywhere("debug", 1, "keeps | instead | yesterday | since | every time | whenever | yet | but only | didn't"),
    _anywhere("debug", 3, "почему | найди причин* | в чём причин* | в чем причин* | какая причина | выясни* | отчего"),
    _anywhere(
        "debug", 2, "падает | падают | упал* | не работа* | сломал* | завис* | крашит* | вылета* | не запуска* | утечк*"
    ),
    _anywhere(
        "debug", 2, "не груз* | растёт | растет | не приход* | не отвеча* | не собира* | не помогло | по-прежнему | nan"
    ),
    _anywhere(
        "debug", 1.5, "ошибк* | тормоз* | медленн* | баг | иногда | перестал* | пропада* | внезапно | хотя | вчера"
    ),
    _anywhere(
        "debug", 1.5, "keyerror | indexerror | typeerror | nullpointerexception | разберись, почему | только если"
    ),
    _opening("ask", 2, "what | what's | how | who | when | where | which | is | are | does | do | can | difference"),
    _opening("ask", 3, "explain | describe | tell me | teach me | review | what is | what does | how do i | how does"),
    _anywhere("ask", 2, "explain | difference between | how to | meaning of | stands for | what are | how can i"),
    _anywhere("ask", 3, "code review | your opinion | what do you think | feedback on | is it ok | is it safe"),
    _opening(
        "ask", 2, "что | как | кто | где | когда | чем | зачем | какой | какая | какие | какое | можно ли | есть ли"
    ),
    _opening("ask", 3, "объясни* | расскажи* | опиши* | поясни* | что такое | что значит | чем отлича* | что дела*"),
    _anywhere("ask", 2.5, "объясни* | расскажи* | в чём разниц* | в чем разниц* | поясни* | подскажи* | что дела*"),
    _anywhere("ask", 3, "ревью | твоё мнение | твое мнение | что думаешь | оцени | посмотри код | посмотри мой код"),
)
"""Every cue; each counts once for a message."""
