"""`oproxy files`: what is kept for batches and models. Every command goes through the API, as any client would."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import aiohttp
import typer
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from ..policy.printable import line_text
from .client import Api, ApiError, connect, run
from .failure import Failure
from .output import echo, errors, print_json, print_pairs, print_table, progress, size, tell
from .plain import Bytes

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Upload, list, download and remove files.")

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A file's id (file-…).")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Files' ids.")]

# What is larger goes up in parts: OpenAI's limit of one request, and of a part.
AT_ONCE, PART = 512 * 1024**2, 64 * 1024**2

Told = Callable[[int], None]


def path_of(id: str) -> str:
    return f"/v1/files/{quote(id, safe='')}"


# --- upload -----------------------------------------------------------------------------------------------------------


@app.command()
def upload(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="The files to upload.")],
    purpose: Annotated[
        str, typer.Option("--purpose", help="What it is for: user_data, batch, assistants, vision, fine-tune, evals.")
    ] = "user_data",
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Upload files, and print their ids, one a line. What is larger than 512 MiB goes up in parts."""
    run(uploaded(config, paths, purpose, as_json))


async def uploaded(config: Path | None, paths: Sequence[Path], purpose: str, as_json: bool) -> None:
    made: list[Any] = []
    failed = False
    async with connect(config) as api:
        for path in paths:
            try:
                length = await asyncio.to_thread(length_of, path)
                with bar(path.name, length) as told:
                    one = await (in_parts if length > AT_ONCE else in_one)(api, path, length, purpose, told)
            except (ApiError, OSError) as exc:
                failed = True
                tell(f"{path}: {exc.message if isinstance(exc, ApiError) else exc.strerror or exc}")
                continue
            made.append(one)
            if not as_json:
                echo(one["id"])
    if as_json:
        print_json(made)
    if failed:
        raise typer.Exit(1)


def length_of(path: Path) -> int:
    """Return how long a file is. OSError if it cannot be read."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size


@contextmanager
def bar(name: str, total: int) -> Iterator[Told]:
    """Show a bar where a person looks; gives what moves it on by so many bytes."""
    if not errors().is_terminal:
        yield lambda count: None
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with progress(*columns, transient=True) as shown:
        task = shown.add_task(line_text(name, 40), total=total)
        yield lambda count: shown.update(task, advance=count)


async def in_one(api: Api, path: Path, length: int, purpose: str, told: Told) -> Any:
    """Upload a file in one request."""
    return await api.upload("/v1/files", path, {"purpose": purpose}, sent=told)


async def in_parts(api: Api, path: Path, length: int, purpose: str, told: Told) -> Any:
    """Upload a file in parts. What fails half-way is given up, so that it takes no room."""
    asked = {"filename": path.name, "bytes": length, "purpose": purpose, "mime_type": "application/octet-stream"}
    begun, _ = await api.post("/v1/uploads", asked)
    url = f"/v1/uploads/{begun['id']}"
    parts: list[str] = []
    try:
        with await asyncio.to_thread(path.open, "rb") as file:
            while data := await asyncio.to_thread(file.read, PART):
                form = aiohttp.FormData()
                form.add_field("data", io.BytesIO(data), filename=path.name, content_type="application/octet-stream")
                parts.append((await api.send(f"{url}/parts", form))["id"])
                told(len(data))
        done, _ = await api.post(f"{url}/complete", {"part_ids": parts})
    except BaseException:
        with contextlib.suppress(ApiError):
            await api.post(f"{url}/cancel", {})
        raise
    return done["file"]


# --- looking ----------------------------------------------------------------------------------------------------------


@app.command("list")
def list_files(
    purpose: Annotated[str | None, typer.Option("--purpose", help="Only those for this purpose.")] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the files, newest first."""
    found = run(all_of(config, purpose))
    if as_json:
        print_json(found)
        return
    rows = [
        (row["id"], row["filename"], row["purpose"], size(row["bytes"]), day(row["created_at"]), day(row["expires_at"]))
        for row in found
    ]
    if not rows:
        tell("There are no files. Upload one: oproxy files upload PATH")
        return
    print_table(("ID", "NAME", "PURPOSE", "SIZE", "CREATED", "EXPIRES"), rows, right=(3,))


async def all_of(config: Path | None, purpose: str | None) -> list[Any]:
    """Return all files, whatever pages they come in."""
    found: list[Any] = []
    async with connect(config) as api:
        more, after = True, ""
        while more:
            page = await api.get(f"/v1/files?purpose={quote(purpose or '', safe='')}&after={after}")
            found += page["data"]
            more, after = page["has_more"], page["last_id"]
    return found


def day(at: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None else ""


@app.command()
def show(id: Id, as_json: Json = False, config: Config = None) -> None:
    """Show all that is known of a file."""
    row = run(fetched(config, id))
    if as_json:
        print_json(row)
        return
    pairs = [
        ("id", row["id"]),
        ("name", " ".join(row["filename"].split())),
        ("purpose", row["purpose"]),
        ("bytes", str(row["bytes"])),
        ("status", row["status"]),
        ("created", day(row["created_at"])),
        ("expires", day(row["expires_at"]) or "never"),
    ]
    print_pairs(pairs, column=9, tabs=True)


async def fetched(config: Path | None, id: str) -> Any:
    async with connect(config) as api:
        return await api.get(path_of(id))


# --- download and removal -------------------------------------------------------------------------------------------


@app.command()
def download(
    id: Id,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="Where to; -: stdout. Else here, under the file's name."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")] = False,
    config: Config = None,
) -> None:
    """Download a file. It appears when it is whole."""
    run(downloaded(config, id, output, force))


async def downloaded(config: Path | None, id: str, output: Path | None, force: bool) -> None:
    async with connect(config) as api:
        row = await api.get(path_of(id))
        if output == Path("-"):
            with Bytes() as out:
                async for data in api.download(f"{path_of(id)}/content"):
                    out.write(data)
            return
        chunks = api.download(f"{path_of(id)}/content")
        if output is not None and is_device(output):
            await write_to(output, chunks)
            return
        path = place(output, row, force)
        await save(chunks, path, row["bytes"])
    tell(f"{path} ({size(row['bytes'])})")


def is_device(path: Path) -> bool:
    """Return whether something is there that must not be replaced by a file: `/dev/stdout`, a named pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def place(output: Path | None, row: dict[str, Any], force: bool) -> Path:
    """Return where a download goes. A link that the person names is followed: they are in charge of where it leads.
    The name that a client has chosen is only ever one in a folder."""
    name = plain_name(row["filename"], row["id"])
    path = output or Path(name)
    if output is not None and output.is_symlink():
        path = Path(os.path.realpath(output))
    if path.is_dir():
        path /= name
    if path.exists() and not force:
        raise Failure(f"{path} is there already. Overwrite it with --force, or name another place with -o.")
    return path


async def write_to(device: Path, chunks: AsyncIterator[bytes]) -> None:
    """Write what comes to a device or a named pipe, which must not be replaced by a file."""
    with device.open("wb") as file:
        async for data in chunks:
            await asyncio.to_thread(file.write, data)


async def save(chunks: AsyncIterator[bytes], path: Path, total: int) -> None:
    """Write what comes to a file of another name beside `path`, and give it its own at the end."""
    number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file, bar(path.name, total) as told:
            async for data in chunks:
                await asyncio.to_thread(file.write, data)
                told(len(data))
        await asyncio.to_thread(os.replace, name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def plain_name(filename: str, id: str) -> str:
    """Return a name for this folder: whatever a client called its file, it does not lead out of it."""
    name = Path(filename.replace("\\", "/")).name
    name = "".join(c for c in name if c.isprintable()).strip()[:150]
    return name if name.strip(".") else id


@app.command()
def rm(ids: Ids, config: Config = None) -> None:
    """Remove files for good."""
    run(removed(config, ids))


async def removed(config: Path | None, ids: Sequence[str]) -> None:
    failed = False
    async with connect(config) as api:
        for id in ids:
            try:
                await api.delete(path_of(id))
            except ApiError as exc:
                failed = True
                tell(f"{id}: {exc.message}")
            else:
                tell(f"{id} is removed.")
    if failed:
        raise typer.Exit(1)
