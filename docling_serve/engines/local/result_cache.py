"""A cache of results: a request like an earlier one gets that result at once.

Requests are the same when tenant, key of the server, documents, names, options and target are, and
the server has the same configuration and the same versions of all packages. The bytes of a document
must be known, so a request with an address or a storage is never answered from the cache; nor is
one whose result goes elsewhere than into the answer.

An entry is two files, ``<key>.body`` and ``<key>.json``. The body is a hard link to the result of
the task that made it, so it takes no space of its own while that one is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from docling_serve.engines.base import CacheUse, Submission, Upload
from docling_serve.engines.fingerprint import fingerprint, sha256_of
from docling_serve.engines.local.disk import Disk
from docling_serve.jobs.spec import JobResult, TaskFolder
from docling_serve.jobs.writing import finish_in_thread

_log = logging.getLogger(__name__)

_TARGETS = ("inbody", "zip")


@dataclass(frozen=True)
class CacheRules:
    """0 means no limit. ``scope`` is what must be the same on the server for a result to be reused;
    ``max_age_s`` counts from when a result was made."""

    scope: str
    max_bytes: int = 0
    max_age_s: float = 0.0

    @classmethod
    def of(cls, scope: Iterable[object], max_bytes: int, max_age_s: float) -> CacheRules:
        """Rules for a server that is described by ``scope``, and its installed packages."""
        packages = sorted({(dist.name, dist.version) for dist in metadata.distributions()})
        text = json.dumps([*scope, packages], sort_keys=True, default=str)
        return cls(hashlib.sha256(text.encode()).hexdigest(), max_bytes, max_age_s)


@dataclass(frozen=True)
class CacheKey:
    """The key of a request's result; ``digests`` are the SHA-256 of its uploads, in order."""

    name: str
    tenant: str
    digests: tuple[str, ...] = field(repr=False)


class _Entry(BaseModel):
    """A result, as ``<key>.json`` describes it. Times are seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: str
    tenant: str
    task_id: str
    created: float
    size: int
    result: JobResult


class ResultCache:
    """The results in ``folder``, least recently used first. It belongs to one event loop."""

    def __init__(self, folder: Path, rules: CacheRules, disk: Disk) -> None:
        self._folder = folder
        self._rules = rules
        self._disk = disk
        self._entries: dict[str, _Entry] = {}
        self._hits = 0
        self._misses = 0

    @staticmethod
    def serves(submission: Submission) -> bool:
        """Whether the result of such a request may be reused."""
        kinds = [getattr(target, "kind", "") for target in submission.targets]
        uploads = [isinstance(source, Upload) for source in submission.sources]
        return len(kinds) == 1 and kinds[0] in _TARGETS and bool(uploads) and all(uploads)

    @property
    def use(self) -> CacheUse:
        """The look-ups since the start, and what is stored."""
        return CacheUse(self._hits, self._misses, self._bytes())

    async def load(self) -> None:
        """Load the entries of the earlier server; remove those that this one cannot use."""
        found = await asyncio.to_thread(self._read)
        self._entries = dict(sorted(found.items(), key=lambda item: item[1].created))
        await self.expire(time.time())

    def key_of(self, submission: Submission) -> CacheKey:
        """The key of a request that :meth:`serves`. Blocks: the documents are read."""
        uploads = [source for source in submission.sources if isinstance(source, Upload)]
        digests = tuple(sha256_of(upload.file) for upload in uploads)
        said = fingerprint(replace(submission, callbacks=()), digests)
        text = "\n".join((self._rules.scope, said, submission.tenant))
        return CacheKey(hashlib.sha256(text.encode()).hexdigest(), submission.tenant, digests)

    async def take(self, key: CacheKey, folder: TaskFolder) -> JobResult | None:
        """Create ``folder`` with the result for ``key`` in it; None where there is none.

        Raises:
            OSError: the folder could not be created.
        """
        entry = self._entries.get(key.name)
        if entry is not None and self._is_too_old(entry, time.time()):
            await self._drop([key.name])
            entry = None
        if entry is not None:
            try:
                await finish_in_thread(self._hand_out, key.name, folder)
            except FileNotFoundError:  # the folder was emptied from outside
                self._entries.pop(key.name, None)
                await asyncio.to_thread(folder.remove)
                entry = None
        if entry is None:
            self._misses += 1
            return None
        self._hits += 1
        if key.name in self._entries:
            self._entries[key.name] = self._entries.pop(key.name)
        return entry.result

    async def keep(
        self, key: CacheKey, task_id: str, result: JobResult, body: Path, size: int
    ) -> None:
        """Store a result of ``size`` bytes for the next request, unless a document failed, even in
        part, or ran on other hardware than it should; a failure to write is not an error."""
        whole = result.num_succeeded == result.num_converted and result.num_converted > 0
        limit = self._rules.max_bytes
        if not whole or not result.typical or (limit and size > limit):
            return
        entry = _Entry(
            scope=self._rules.scope,
            tenant=key.tenant,
            task_id=task_id,
            created=time.time(),
            size=size,
            result=result.model_copy(update={"body": TaskFolder(body.parent).body.name}),
        )
        try:
            await finish_in_thread(self._write, key.name, entry, body)
        except OSError as exc:
            _log.warning("task %s: its result was not cached: %s", task_id, exc)
            return
        self._entries.pop(key.name, None)
        self._entries[key.name] = entry
        await self._make_room()

    async def forget(self, key: CacheKey | None, task_id: str) -> None:
        """Drop the result of a deleted task, so that it is not reused."""
        name = key.name if key is not None else None
        await self._drop_where(lambda n, entry: n == name or entry.task_id == task_id)

    async def clear(self, before: float, tenant: str | None) -> None:
        """Remove results made before then, of ``tenant`` or of all."""
        await self._drop_where(
            lambda _, entry: entry.created < before and tenant in (None, entry.tenant)
        )

    async def expire(self, now: float) -> None:
        """Remove expired results."""
        await self._drop_where(lambda _, entry: self._is_too_old(entry, now))
        await self._make_room()

    # ---- internals --------------------------------------------------------------------------

    def _is_too_old(self, entry: _Entry, now: float) -> bool:
        return bool(self._rules.max_age_s) and now - entry.created > self._rules.max_age_s

    def _bytes(self) -> int:
        return sum(entry.size for entry in self._entries.values())

    async def _make_room(self) -> None:
        excess = self._bytes() - self._rules.max_bytes
        gone = []
        for name, entry in self._entries.items():
            if not self._rules.max_bytes or excess <= 0:
                break
            gone.append(name)
            excess -= entry.size
        await self._drop(gone)

    async def _drop_where(self, condition: Callable[[str, _Entry], bool]) -> None:
        await self._drop([name for name, entry in self._entries.items() if condition(name, entry)])

    async def _drop(self, names: list[str]) -> None:
        for name in names:
            del self._entries[name]
        if names:
            await asyncio.to_thread(self._remove, names)

    # ---- in threads -------------------------------------------------------------------------

    def _body(self, name: str) -> Path:
        return self._folder / f"{name}.body"

    def _description(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read(self) -> dict[str, _Entry]:
        found: dict[str, _Entry] = {}
        if not self._folder.is_dir():
            return found
        for path in self._folder.glob("*.json"):
            try:
                entry = _Entry.model_validate_json(path.read_bytes())
                if entry.scope == self._rules.scope and (
                    entry.size == self._body(path.stem).stat().st_size
                ):
                    found[path.stem] = entry
            except (OSError, ValidationError) as exc:
                _log.warning("a cached result cannot be used: %s", exc)
        for path in self._folder.iterdir():
            if path.stem not in found or path.suffix not in (".body", ".json"):
                path.unlink(missing_ok=True)
        return found

    def _hand_out(self, name: str, folder: TaskFolder) -> None:
        TaskFolder.create(folder.root.parent, folder.root.name)
        _link(self._body(name), folder.body)
        self._disk.sync_folder(folder.root)
        self._disk.sync_folder(folder.root.parent)

    def _write(self, name: str, entry: _Entry, body: Path) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._folder / f"{entry.task_id}.new"
        try:
            _link(body, aside)
            aside.replace(self._body(name))
            self._disk.write_text(self._description(name), entry.model_dump_json())
        except BaseException:
            aside.unlink(missing_ok=True)
            self._remove([name])
            raise

    def _remove(self, names: list[str]) -> None:
        for name in names:
            for path in (self._description(name), self._body(name)):
                try:
                    path.unlink(missing_ok=True)
                except OSError as exc:  # the next start tries again
                    _log.warning("a cached result cannot be removed: %s", exc)


def drop_cache(folder: Path) -> None:
    """Remove what a server with a cache left behind, for one without. Blocks."""
    shutil.rmtree(folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """``target`` as a hard link to ``source``, or a copy where no link can be made."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        shutil.copyfile(source, target)
        target.chmod(0o600)
