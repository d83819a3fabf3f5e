"""What Debian and Ubuntu changed in their ``/usr/bin/python3``, undone.

Debian splits the world in ``/usr`` (its own packages, in ``dist-packages``), ``/usr/local`` (the
administrator's) and virtual environments, and taught site, sysconfig and distutils so. In a prefix of
its own an interpreter must know only ``site-packages``, as upstream. The patches differ from release
to release, so no patched line is looked for: what a function gives back is redefined after it, where
the module is complete. Only the place to insert at is an anchor, and a missing one makes the
interpreter unusable rather than wrong.

From 3.11 on module ``site`` is compiled into the binary. The first module read from disk,
``encodings``, then tells the import system to take the next ones from disk too, until ``site`` (from
disk) revokes that in its first statement.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from trainenv.channels.host.contents import Entry
from trainenv.errors import InterpreterError

_SITE = '''
def getsitepackages(prefixes=None):
    """Returns a list containing all global site-packages directories."""
    found = []
    for prefix in dict.fromkeys(PREFIXES if prefixes is None else prefixes):
        if prefix:
            for library in dict.fromkeys((getattr(sys, "platlibdir", "lib"), "lib")):
                version = "python%d.%d" % sys.version_info[:2]
                found.append(os.path.join(prefix, library, version, "site-packages"))
    return found


'''

_FROM_DISK = """
# The module site of this prefix is the file beside this package, not the one in the binary.
import _imp
_imp._override_frozen_modules_for_tests(-1)
"""

_FROZEN_AGAIN = """import _imp
_imp._override_frozen_modules_for_tests(0)
"""

# The schemes' names stay as aliases, because distutils of 3.10 looks them up.
_SYSCONFIG = '''
_INSTALL_SCHEMES["posix_local"] = _INSTALL_SCHEMES["deb_system"] = _INSTALL_SCHEMES["posix_prefix"]


def get_scheme_names():
    """Return a tuple containing the schemes names."""
    return tuple(sorted(name for name in _INSTALL_SCHEMES if name not in ("posix_local", "deb_system")))


def _get_preferred_schemes():
    return {"prefix": "posix_prefix", "home": "posix_home", "user": "posix_user"}


'''

_DISTUTILS_SYSCONFIG = '''

def get_python_lib(plat_specific=0, standard_lib=0, prefix=None):
    """Return the directory with the installed Python library (standard library or site-packages)."""
    if prefix is None:
        if standard_lib:
            prefix = BASE_EXEC_PREFIX if plat_specific else BASE_PREFIX
        else:
            prefix = EXEC_PREFIX if plat_specific else PREFIX
    library = os.path.join(prefix, "lib", "python" + get_python_version())
    return library if standard_lib else os.path.join(library, "site-packages")


def is_virtual_environment():
    return True
'''

_DISTUTILS_INSTALL = """

class install(install):
    def select_scheme(self, name):
        super().select_scheme("unix_prefix" if name in ("unix_local", "posix_local") else name)
"""

_DISTUTILS_EGG_INFO = """

class install_egg_info(install_egg_info):
    def initialize_options(self):
        super().initialize_options()
        self.prefix_option = True  # keeps the Python version in the file's name
"""


_SETUPTOOLS_INSTALL = """

# The other commands ask for these two: the layout of every system, and the Python version in file names.
install.install_layout = None
install.prefix_option = True
"""


def undone(
    entries: dict[str, Entry], short_version: str, frozen_site: bool, wheels: dict[str, bytes]
) -> dict[str, Entry]:
    """``entries`` (by path in the package) of a patched interpreter as an unpatched one has them.

    ``wheels`` (by file name) are what ``ensurepip`` installs: Debian's own refuses to work outside a
    virtual environment, takes its wheels from ``/usr/share``, or is missing, so ours takes its place.
    """
    lib = f"lib/python{short_version}/"
    ours = {path: entry for path, entry in entries.items() if not path.startswith(f"{lib}ensurepip/")}
    ours.pop(f"{lib}_distutils_system_mod.py", None)

    def edit(path: str, code: str, anchor: str | None = None, *, required: bool = True) -> None:
        entry = ours.get(lib + path)
        if entry is None:
            if required:
                raise InterpreterError(f"its Debian patches can't be undone: {path} is missing")
            return
        text = _inserted(entry.data.decode(), code, anchor)
        if text is None:
            raise InterpreterError(f"its Debian patches can't be undone: {path} is not as expected")
        ours[lib + path] = replace(entry, data=text.encode(), origin=None)

    edit("site.py", _SITE, r"^if not sys\.flags\.no_site:")
    if frozen_site:
        edit("site.py", _FROZEN_AGAIN, r"^import sys$")
        edit("encodings/__init__.py", _FROM_DISK)
    sysconfig = "sysconfig/__init__.py" if f"{lib}sysconfig/__init__.py" in ours else "sysconfig.py"
    edit(sysconfig, _SYSCONFIG)
    edit("distutils/sysconfig.py", _DISTUTILS_SYSCONFIG, required=False)
    edit("distutils/command/install.py", _DISTUTILS_INSTALL, required=False)
    edit("distutils/command/install_egg_info.py", _DISTUTILS_EGG_INFO, required=False)

    if not wheels:
        return ours
    bundle = f"{lib}ensurepip/"
    source = Path(__file__).with_name("bundled_ensurepip.py").read_bytes()
    ours[f"{bundle}__init__.py"] = Entry(f"{bundle}__init__.py", source)
    main = b'import sys\n\nimport ensurepip\n\nif __name__ == "__main__":\n    sys.exit(ensurepip._main())\n'
    ours[f"{bundle}__main__.py"] = Entry(f"{bundle}__main__.py", main)
    for name, data in wheels.items():
        ours[f"{bundle}_bundled/{name}"] = Entry(f"{bundle}_bundled/{name}", data)
    return ours


def unpatched_setuptools(files: dict[str, bytes]) -> dict[str, bytes]:
    """setuptools' ``files`` without their need of options that only Debian's distutils gives ``install``.

    Files that Debian did not patch come back as they are.
    """
    path = "setuptools/command/install.py"
    if b"install_layout" not in files.get("setuptools/command/install_lib.py", b"") or path not in files:
        return files
    return {**files, path: files[path] + _SETUPTOOLS_INSTALL.encode()}


def _inserted(text: str, code: str, anchor: str | None) -> str | None:
    """``text`` with ``code`` before the line that ``anchor`` matches; None if there is none.

    Without an anchor it comes at the end, but before the lines that run the module as a program.
    """
    match = re.search(anchor or r"^if __name__ == ['\"]__main__['\"]:", text, flags=re.MULTILINE)
    if match is None:
        return None if anchor else f"{text}\n{code.lstrip()}" if text.endswith("\n") else f"{text}\n{code}"
    return text[: match.start()] + code.lstrip("\n") + text[match.start() :]
