"""The table of tasks, in SQLite or PostgreSQL. It knows rows, not folders (see ``index``).

A handful of statements that both understand, over their own drivers: SQLAlchemy's import alone would take longer than
listing ten thousand tasks. Each version of the table has a name of its own, so that several versions
of trainenv can share a server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from trainenv.credentials import without_credentials
from trainenv.errors import DatabaseError
from trainenv.training.selection import Selection

if TYPE_CHECKING:
    from psycopg import Connection

_VERSION = 1
_TASKS, _RECORDS, _PLACES = f"trainenv_tasks_{_VERSION}", f"trainenv_records_{_VERSION}", f"trainenv_places_{_VERSION}"
_LOCK_PATIENCE_SECONDS = 10.0
_CONNECT_PATIENCE_SECONDS = 5
_CREATION_LOCK = 0x747261696E656E76
"""For PostgreSQL's advisory lock: two that create one table at once disturb each other."""


class Row(NamedTuple):
    """One task. ``place`` and ``folder`` are its folder of tasks and its name there.

    ``parameters_json`` and ``metrics_json`` are objects. ``stamp`` tells the state of ``task.json`` that this
    was read from; ``settled`` is 1 once no more will come.
    """

    place: str
    folder: str
    id: str
    name: str | None
    method: str
    stage: str
    conda_env: str
    status: str
    outcome: str
    created: str
    started: str | None
    finished: str | None
    host: str
    username: str
    parameters_json: str
    metrics_json: str
    stamp: str
    settled: int


_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS {_TASKS} (place TEXT NOT NULL, folder TEXT NOT NULL, "
    + ", ".join(
        f"{column} {'INTEGER' if column == 'settled' else 'TEXT'}"
        for column in Row._fields
        if column not in ("place", "folder")
    )
    + ", PRIMARY KEY (place, folder))",
    f"CREATE TABLE IF NOT EXISTS {_RECORDS} (place TEXT NOT NULL, folder TEXT NOT NULL, record TEXT NOT NULL, "
    "PRIMARY KEY (place, folder))",
    f"CREATE TABLE IF NOT EXISTS {_PLACES} (place TEXT PRIMARY KEY, host TEXT NOT NULL, path TEXT NOT NULL, "
    "scanned TEXT NOT NULL)",
    f"CREATE INDEX IF NOT EXISTS {_TASKS}_by_time ON {_TASKS} (created, folder)",
    f"CREATE INDEX IF NOT EXISTS {_TASKS}_unsettled ON {_TASKS} (settled)",
)
_COLUMNS = ", ".join(Row._fields)
_UPSERT = (
    f"INSERT INTO {_TASKS} ({_COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))}) "
    "ON CONFLICT (place, folder) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in Row._fields if column not in ("place", "folder"))
)
_UPSERT_RECORD = (
    f"INSERT INTO {_RECORDS} (place, folder, record) VALUES (?, ?, ?) "
    "ON CONFLICT (place, folder) DO UPDATE SET record = excluded.record"
)
_UPSERT_PLACE = (
    f"INSERT INTO {_PLACES} (place, host, path, scanned) VALUES (?, ?, ?, ?) ON CONFLICT (place) "
    "DO UPDATE SET host = excluded.host, path = excluded.path, scanned = excluded.scanned"
)


class Connected(Protocol):
    """What the two drivers have in common."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of one statement, whose parameters are ``?``."""

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> None:
        """One statement for each of ``values``."""

    def begin(self) -> None:
        """Begin a change of several statements."""

    def commit(self) -> None:
        """End it; all of it is there then."""

    def close(self) -> None:
        """End the connection."""


class Database:
    """The tasks of one or several places."""

    def __init__(self, connected: Connected) -> None:
        self._connected = connected

    def scanned(self, place: str) -> str:
        """What ``save`` was told of ``place`` the last time; empty of one that is new."""
        found = self._connected.execute(f"SELECT scanned FROM {_PLACES} WHERE place = ?", (place,))
        return found[0][0] if found else ""

    def folders(self, place: str) -> set[str]:
        """The tasks of ``place`` that are known."""
        return {row[0] for row in self._connected.execute(f"SELECT folder FROM {_TASKS} WHERE place = ?", (place,))}

    def unsettled(self, place: str) -> dict[str, str]:
        """The stamps of those of which more may come."""
        found = self._connected.execute(f"SELECT folder, stamp FROM {_TASKS} WHERE settled = 0 AND place = ?", (place,))
        return dict(found)

    def places(self) -> list[tuple[str, str, str]]:
        """All places, and the host and path where each was last seen."""
        return self._connected.execute(f"SELECT place, host, path FROM {_PLACES}")

    def save(
        self, place: str, host: str, path: str, scanned: str, changed: Sequence[tuple[Row, str]], gone: Iterable[str]
    ) -> None:
        """Take over what was found of ``place``: changed tasks with their records, and folders that are gone."""
        connected = self._connected
        connected.begin()
        ordered = sorted(changed)  # Two machines that write the same rows do so in the same order.
        connected.execute_many(_UPSERT, [row for row, _ in ordered])
        connected.execute_many(_UPSERT_RECORD, [(row.place, row.folder, record) for row, record in ordered])
        removed = [(place, folder) for folder in sorted(gone)]
        for table in (_TASKS, _RECORDS):
            connected.execute_many(f"DELETE FROM {table} WHERE place = ? AND folder = ?", removed)
        connected.execute_many(_UPSERT_PLACE, [(place, host, path, scanned)])
        connected.commit()

    def forget(self, place: str) -> None:
        """Take out all tasks of ``place``."""
        self._connected.begin()
        for table in (_TASKS, _RECORDS, _PLACES):
            self._connected.execute(f"DELETE FROM {table} WHERE place = ?", (place,))
        self._connected.commit()

    def select(self, wanted: Selection, *, whole: bool = False, begins: str = "") -> list[Any]:
        """The tasks that ``wanted`` means, but for its ``where``, newest first.

        Each is the fields of ``Row``, then host and path where its place was last seen, and its record as
        JSON, empty unless ``whole``. ``begins`` is how their ids begin.
        """
        columns = ", ".join(f"t.{column}" for column in Row._fields)
        record = "r.record" if whole else "''"
        statement = f"SELECT {columns}, p.host, p.path, {record} FROM {_TASKS} t "
        statement += f"JOIN {_PLACES} p ON p.place = t.place "
        if whole:
            statement += f"JOIN {_RECORDS} r ON r.place = t.place AND r.folder = t.folder "
        asked: list[tuple[str, Any]] = [
            (f"t.{column} = ?", value)
            for column in ("method", "status", "conda_env", "name")
            if (value := getattr(wanted, column)) is not None
        ]
        if wanted.since is not None:
            asked.append(("t.created >= ?", wanted.since))
        if begins:
            asked.append(("substr(t.id, 1, ?) = ?", (len(begins), begins)))
        if asked:
            statement += f"WHERE {' AND '.join(text for text, _ in asked)} "
        statement += "ORDER BY t.created DESC, t.folder DESC"
        values = [each for _, value in asked for each in (value if isinstance(value, tuple) else (value,))]
        if wanted.limit is not None and not wanted.where:
            statement += " LIMIT ?"
            values.append(wanted.limit)
        return self._connected.execute(statement, values)


class DamagedError(Exception):
    """The SQLite file is none, or not as we make it: remove it and make it anew."""


class SQLite:
    """A file, or memory where none can be written. Raises ``DamagedError`` for a file that is no database of ours."""

    def __init__(self, file: Path | None) -> None:
        self._connection = sqlite3.connect(file or ":memory:", timeout=_LOCK_PATIENCE_SECONDS, isolation_level=None)
        (version,) = self.execute("PRAGMA user_version")[0]
        if version not in (0, _VERSION):
            raise DamagedError(f"it is of version {version}")
        if version == 0:
            self.begin()
            for statement in _SCHEMA:
                self.execute(statement)
            self.execute(f"PRAGMA user_version = {_VERSION}")
            self.commit()

    def into_memory(self) -> None:
        """Go on with a copy that only this process has: changes can be made again."""
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")
        memory = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.backup(memory)
        self._connection.close()
        self._connection = memory

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _judged(error) from None

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> None:
        if not values:
            return
        try:
            self._connection.executemany(statement, values)
        except sqlite3.DatabaseError as error:
            raise _judged(error) from None

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


def _judged(error: sqlite3.DatabaseError) -> Exception:
    """``DamagedError`` if what is there is no database of ours; what only can't be done now stays what it is."""
    operational = isinstance(error, sqlite3.OperationalError)
    return error if operational and "no such" not in str(error) else DamagedError(str(error))


class PostgreSQL:
    """A server that several machines may share. Raises ``DatabaseError``, which shows no password."""

    def __init__(self, url: str) -> None:
        self._where = _address(url)
        try:
            import psycopg
        except ImportError as error:
            raise DatabaseError(
                f"the tasks' database {self._where} can't be used", cause=f"psycopg can't be loaded: {error}"
            ) from None
        self._error: type[Exception] = psycopg.Error
        scheme, _, rest = url.partition("://")
        try:
            self._connection: Connection[Any] = psycopg.connect(
                f"{scheme.partition('+')[0]}://{rest}",
                connect_timeout=_CONNECT_PATIENCE_SECONDS,
                application_name="trainenv",
                autocommit=True,
            )
        except psycopg.Error as error:
            raise self._failure(error, url) from None
        if self.execute("SELECT to_regclass(?) IS NULL", (_PLACES,))[0][0]:
            self.begin()
            self.execute("SELECT pg_advisory_xact_lock(?)", (_CREATION_LOCK,))
            for statement in _SCHEMA:
                self.execute(statement)
            self.commit()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            cursor = self._connection.execute(statement.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []
        except self._error as error:
            raise self._failure(error) from None

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> None:
        if not values:
            return
        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(statement.replace("?", "%s").encode(), values)
        except self._error as error:
            raise self._failure(error) from None

    def begin(self) -> None:
        self.execute("BEGIN")

    def commit(self) -> None:
        self.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()

    def _failure(self, error: Exception, url: str = "") -> DatabaseError:
        password = unquote(urlsplit(url).password or "") if url else ""
        said = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        if password:
            said = said.replace(password, "…").replace(urlsplit(url).password or "", "…")
        return DatabaseError(
            f"the tasks' database {self._where} can't be used",
            cause=without_credentials(said),
            hint="TRAINENV_DATABASE=sqlite shows the tasks of this workspace without it",
        )


def _address(url: str) -> str:
    """``url`` as it may be shown: host, port and database."""
    parts = urlsplit(url)
    return f"{parts.scheme.partition('+')[0]}://{parts.netloc.rpartition('@')[2]}{parts.path}"
