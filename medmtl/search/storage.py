"""Where trials are kept: a journal file beside them, or a database that several machines reach."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import optuna
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from optuna.study import Study
from sqlalchemy.exc import SQLAlchemyError

from medmtl.search.ledger import MANAGED
from medmtl.types import ConfigError

JOURNAL = "journal.log"
_TRIES, _WAIT_S = 4, 0.1


def open_study(name: str, sampler: BaseSampler, kept: BaseStorage, *, prune: bool = False) -> Study:
    """The study of a search, made where it is not there yet; several processes may do so at once.

    Args:
        name: of the study.
        sampler: gives trials their configurations.
        kept: where trials are kept.
        prune: stop trials that stay below the median of the others, after the first four.
    """
    pruner = MedianPruner(n_startup_trials=4) if prune else NopPruner()
    study = optuna.create_study(
        storage=kept,
        study_name=name,
        sampler=sampler,
        pruner=pruner,
        direction="maximize",
        load_if_exists=True,
    )
    if MANAGED not in study.user_attrs:
        study.set_user_attr(MANAGED, True)
    return study


def without_password(storage: str | None) -> str:
    """What may be written down of a storage's address."""
    if storage is None:
        return JOURNAL
    if "://" not in storage:
        return storage
    scheme, _, rest = storage.partition("?")[0].partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{host}{slash}{path}"


def open_storage(storage: str) -> BaseStorage:
    """A storage by its address.

    Args:
        storage: of a database such as ``postgresql://user@host/name``, or path of a journal file.

    Raises:
        ConfigError: it cannot be opened; the message says why, without any password.
    """
    if "://" not in storage:
        return _journal(Path(storage))
    said = without_password(storage)
    # Two processes that make the tables of a new database at once get in each other's way, until one is done.
    for attempt in range(_TRIES):
        try:
            return RDBStorage(storage)
        except ImportError as error:
            raise ConfigError(f"--storage {said}: the database's driver is missing ({error})") from error
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError, ValueError) as error:
            if attempt == _TRIES - 1:
                reason = " ".join(str(error).splitlines()[0].replace(storage, said).split())
                raise ConfigError(
                    f"--storage {said}: cannot be opened ({type(error).__name__}: {reason})"
                ) from error
        time.sleep(_WAIT_S * 2**attempt)
    raise AssertionError("not reached")


def _journal(path: Path) -> JournalStorage:
    lock = JournalFileOpenLock if sys.platform == "win32" else JournalFileSymlinkLock
    try:
        if path.is_file() and path.stat().st_size:
            with path.open(encoding="utf-8") as stream:
                json.loads(stream.readline())["op_code"]
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock(str(path))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--storage {path}: is no journal that can be read and written ({error})"
        ) from error
