"""What every benchmark shares: the table of figures and one JSON object as the last line with ``--json``."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured number; ``goal`` is the smallest (or with ``at_most`` the largest) value that is good enough."""

    name: str
    value: float | int | str
    unit: str = ""
    goal: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None or isinstance(self.value, str):
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


def show(title: str, figures: list[Figure], as_json: bool) -> None:
    """Print a table of the figures and, if asked, one JSON object as the last line."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    table = Table(title=title, caption=machine)
    for column in ("figure", "value", "unit", "goal", "reached"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for figure in figures:
        goal = "" if figure.goal is None else f"{'<=' if figure.at_most else '>='} {figure.goal:g}"
        reached = {None: "", True: "yes", False: "no"}[figure.reached]
        value = f"{figure.value:.4g}" if isinstance(figure.value, float) else str(figure.value)
        table.add_row(figure.name, value, figure.unit, goal, reached)
    Console().print(table)
    if as_json:
        print(
            json.dumps({"benchmark": title, "machine": machine, **{figure.name: figure.value for figure in figures}})
        )
