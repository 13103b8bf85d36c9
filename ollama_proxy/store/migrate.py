"""Bring a database's tables to the newest version, by Alembic. Imported only when that is needed: Alembic is slow to
import, and almost every start finds the tables as they should be.

Works inside the caller's transaction: a migration that fails leaves everything as it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import RevisionStep, StampStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from . import schema

__all__ = ["FOLDER", "upgrade"]

FOLDER = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, *, folder: Path = FOLDER) -> None:
    """Run the migrations that are missing, on a connection that is in a transaction."""
    config = Config()
    # Alembic reads options through configparser, which takes % for its own.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)

    def steps(revision: object, context: object) -> list[StampStep | RevisionStep]:
        return list(scripts._upgrade_revs("head", revision))  # type: ignore[arg-type]

    with EnvironmentContext(config, scripts, fn=steps) as environment:
        environment.configure(
            connection=connection, target_metadata=schema.metadata, version_table=schema.VERSION_TABLE
        )
        environment.run_migrations()
