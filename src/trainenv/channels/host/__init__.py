"""The host channel: conda packages made from this machine's own interpreters.

Where no conda channel can be reached, the CPython that is already here becomes a relocatable conda
``python`` package, with pip and setuptools beside it, in an indexed ``file://`` channel.
"""

from trainenv.channels.host.channel import HostChannel, provide
from trainenv.channels.host.interpreters import Interpreter, find_interpreters

__all__ = ["HostChannel", "Interpreter", "find_interpreters", "provide"]
