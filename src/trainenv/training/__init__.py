"""Run: a method and its parameters become a task, with its log, its metrics and its result.

Names are imported when first used: the supervisor of a task comes through here too, and has to
start quickly.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trainenv.training.chart import draw
    from trainenv.training.executor import Executor, supervisor_command
    from trainenv.training.method import BrokenMethod, Method, list_methods, load_method
    from trainenv.training.method_checks import problems
    from trainenv.training.method_editing import new_method, set_environment
    from trainenv.training.parameters import checked_parameters
    from trainenv.training.run import Event, cancel, cancel_all, current, follow, output, start, wait, waiting
    from trainenv.training.task import Task, list_tasks, load_task, remove_tasks

__all__ = [
    "BrokenMethod",
    "Event",
    "Executor",
    "Method",
    "Task",
    "cancel",
    "cancel_all",
    "checked_parameters",
    "current",
    "draw",
    "follow",
    "list_methods",
    "list_tasks",
    "load_method",
    "load_task",
    "new_method",
    "output",
    "problems",
    "remove_tasks",
    "set_environment",
    "start",
    "supervisor_command",
    "wait",
    "waiting",
]

_MODULES = {
    "chart": ("draw",),
    "executor": ("Executor", "supervisor_command"),
    "method": ("BrokenMethod", "Method", "list_methods", "load_method"),
    "method_checks": ("problems",),
    "method_editing": ("new_method", "set_environment"),
    "parameters": ("checked_parameters",),
    "run": ("Event", "cancel", "cancel_all", "current", "follow", "output", "start", "wait", "waiting"),
    "task": ("Task", "list_tasks", "load_task", "remove_tasks"),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"trainenv.training.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
