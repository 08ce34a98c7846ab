"""The screens that open over a table: the GPUs of a node, `why` of a pod, and the keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from extender.cli.top.live_data import Answer, LiveData, Query, Unanswered
from extender.cli.top.rows import STATE_STYLES, UNKNOWN, Row, memory_bar
from extender.plain_text import plain

Draw = Callable[[Row], RenderableType]


class DetailScreen(ModalScreen[None]):
    """One answer of the debug API, asked anew while it is open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,left", "dismiss", "Back")]

    def __init__(self, data: LiveData, title: str, path: str, query: Query, draw: Draw, every_seconds: float) -> None:
        super().__init__()
        self._data, self._title, self._path, self._query, self._draw, self._every = data, title, path, query, draw, every_seconds

    def compose(self) -> ComposeResult:
        """A frame that scrolls."""
        with VerticalScroll(id="detail") as frame:
            frame.border_title = Content(plain(self._title))
            frame.border_subtitle = "Esc: back"
            yield Static(Text("asking ...", "dim"), id="answer")

    def on_mount(self) -> None:
        """Ask now, and again while the screen is open."""
        self.run_worker(self._ask(), exclusive=True)
        self.set_interval(self._every, lambda: self.run_worker(self._ask(), exclusive=True))

    async def _ask(self) -> None:
        answer = await self._data.get(self._path, self._query)
        self.query_one("#answer", Static).update(drawn(answer, self._draw))


def drawn(answer: Answer, draw: Draw) -> RenderableType:
    """Return an answer as it is shown. An answer of another shape, as of another version, is named and harms nothing."""
    if isinstance(answer, Unanswered):
        return Text(plain(answer.why), "bold red")
    try:
        return draw(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Text(f"the answer has another form than this version expects ({type(error).__name__}: {plain(str(error))})", "bold red")


def gpus_of_node(machine: Row) -> RenderableType:
    """Return the GPUs of a node (`/v1/nodes/{name}/machine`) as a table: pods, memory, temperature, faults."""
    head = Text(
        plain(f"{machine['product'] or 'GPU unknown'}  {machine['fabric_detail'] or machine['fabric']}  {machine['topology_note']}")
    )
    if not machine["drawable"]:
        return Group(head, Text(plain(str(machine["why_not_drawable"])), "yellow"))
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for title in ("GPU", "STATE", "MEMORY", "UNKNOWN", "BUSY", "TEMP", "PODS AND FAULTS"):
        table.add_column(title, no_wrap=title != "PODS AND FAULTS", ratio=1 if title == "PODS AND FAULTS" else None)
    for gpu in machine["gpus"]:
        table.add_row(*_gpu_cells(gpu))
    notes = [Text(plain(f"! {note}"), "yellow") for note in machine["contradictions"]]
    degraded = [Text(plain(f"! {edge['degraded']}"), "bold red") for edge in machine["edges"] if edge["degraded"]]
    return Group(head, Text(), table, Text(), *degraded, *notes)


def _gpu_cells(gpu: Row) -> tuple[Text, ...]:
    memory, state = gpu["memory"], gpu["state"]
    total, used, unknown = memory["total_bytes"], memory["used_bytes"], memory["unknown_bytes"]
    temperature, busy = gpu["temperature_celsius"], gpu["utilization"]
    says = [*gpu["pods"], *([gpu["state_why"]] if gpu["state_why"] else []), *gpu["faults"], *gpu["suspicions"]]
    letter = "?" if state == "unknown" else "x" if state == "excluded" else state[0]
    return (
        Text(str(gpu["gpu"])),
        Text(plain(state), STATE_STYLES.get(letter, "")),
        memory_bar(total, used, unknown),
        Text(f"{unknown / 2**30:.1f} GiB", "bold red") if unknown else Text(UNKNOWN if unknown is None else "0", "dim"),
        Text(UNKNOWN if busy is None else f"{busy:.0%}"),
        Text(UNKNOWN if temperature is None else f"{temperature:.0f} °C"),
        Text(plain(", ".join(map(str, says)))),
    )


KEYS = (
    ("n / p", "nodes / pods"),
    ("Enter", "open: the GPUs of a node, why of a pod"),
    ("s / S", "sort by the next / previous column"),
    ("r", "reverse the order"),
    ("/", "show only rows that contain a text; Esc clears it"),
    ("w", "only pods that wait (pods)"),
    ("Space", "stop and continue the updates"),
    ("q", "quit"),
)


class KeysScreen(ModalScreen[None]):
    """The keys and the letters."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss", "Back")]

    def compose(self) -> ComposeResult:
        """A table of keys."""
        table = Table(box=None, show_header=False, pad_edge=False)
        for key, meaning in KEYS:
            table.add_row(Text(key, "bold"), meaning)
        letters = Table(box=None, show_header=False, pad_edge=False)
        meanings = {
            "f": "free",
            "t": "taken",
            "a": "assumed: decided, not seen bound yet",
            "x": "excluded: faulty, or used by an unknown process",
        }
        for letter, meaning in {**meanings, "?": "held by a pod whose devices are not known"}.items():
            letters.add_row(Text(letter, STATE_STYLES[letter]), meaning)
        with VerticalScroll(id="detail") as frame:
            frame.border_title = "Keys"
            yield Static(Group(table, Text(), Text("GPUS: one letter per GPU", "bold"), letters))
