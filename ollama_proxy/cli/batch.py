"""`oproxy batch`: hand in a file of requests, watch it, and fetch the answers.

Everything goes through the API. Without a daemon the batch is kept all the same, and is answered only while a command
watches it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from .client import Api, ApiError, connect, run
from .failure import Failure
from .output import echo, errors, print_json, print_pairs, print_table, progress, tell
from .plain import Bytes

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Have a file of requests answered when nobody else waits.")

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A batch's id, as submit and list print it.")]


HEADERS = ("ID", "STATUS", "ANSWERED", "FAILED", "TOTAL", "ENDPOINT", "CREATED")
OVER = frozenset({"completed", "failed", "expired", "cancelled"})
# Seconds between looks at a batch.
LOOK = 0.5


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="A request a line, as OpenAI's Batch API has it.")],
    endpoint: Annotated[
        str | None, typer.Option(metavar="PATH", help="What the lines ask for; else the first line's url.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Wait until it is over.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Upload a file of requests and have it answered. Prints the batch's id."""
    path = endpoint or first_url(file)
    if watch:
        finish(run(submitted(config, file, path, as_json)))
    else:
        run(handed_in(config, file, path, as_json))


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many, the newest.", min=1, max=100)] = 20,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List the batches, the newest first."""
    found: list[dict[str, Any]] = run(get(config, f"/v1/batches?limit={limit}"))["data"]
    if as_json:
        print_json(found)
        return
    rows = []
    for each in found:
        counts = each["request_counts"]
        told = (counts["completed"], counts["failed"], counts["total"])
        rows.append((each["id"], each["status"], *told, each["endpoint"], when(each["created_at"])))
    print_table(HEADERS, rows, right=(2, 3, 4))


@app.command()
def show(id: Id, as_json: Json = False, config: Config = None) -> None:
    """Show one batch, and what is wrong with it."""
    batch = run(get(config, f"/v1/batches/{quote(id, safe='')}"))
    if as_json:
        print_json(batch)
        return
    counts, usage = batch["request_counts"], batch["usage"]
    names = ("id", "status", "endpoint", "model", "input_file_id", "output_file_id", "error_file_id")
    times = ("created", "in_progress", "finalizing", "cancelling", *sorted(OVER), "expires")
    print_pairs(
        [
            *((name.removesuffix("_file_id"), batch[name]) for name in names),
            ("requests", f"{counts['completed']} of {counts['total']} answered, {counts['failed']} failed"),
            ("tokens", f"{usage['input_tokens']:,} in, {usage['output_tokens']:,} out"),
            *(
                (name.removesuffix("_progress"), when(at))
                for name in times
                if (at := batch[f"{name}_at"]) and not (name == "expires" and batch["status"] in OVER)
            ),
            *(("error", each) for each in faults(batch)),
        ],
        column=11,
    )


@app.command()
def watch(id: Id, as_json: Json = False, config: Config = None) -> None:
    """Wait until a batch is over, with a progress bar. Exit status 1 unless it is completed."""
    finish(run(watched(config, id, as_json)))


@app.command()
def cancel(id: Id, config: Config = None) -> None:
    """Cancel a batch; what is answered already is kept."""
    batch = run(post(config, f"/v1/batches/{quote(id, safe='')}/cancel", {}))
    tell(f"{id} is {batch['status']}.")


@app.command()
def results(
    id: Id,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write them to a file.")] = None,
    only_errors: Annotated[bool, typer.Option("--errors", help="The requests that failed, with why.")] = False,
    config: Config = None,
) -> None:
    """Print the answers of a batch that is over, one a line, in no particular order."""
    size = run(fetched(config, id, output, only_errors))
    if output is not None:
        tell(f"{output}: {size:,} bytes.")


# --- what is done -------------------------------------------------------------------------------------------------


def first_url(file: Path) -> str:
    """Return the url of a file's first line. OSError if it cannot be read."""
    with file.open("rb") as source:
        line = source.readline(1 << 26)
    try:
        found = msgspec.json.decode(line)["url"]
        if isinstance(found, str):
            return found
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
        pass
    raise Failure(
        f"{file} does not begin with a request of OpenAI's Batch API; its lines look like\n"
        '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": …, "messages": […]}}\n'
        "or say by --endpoint what they ask for."
    )


async def get(config: Path | None, path: str) -> Any:
    async with connect(config) as api:
        return await api.get(path)


async def post(config: Path | None, path: str, body: dict[str, Any]) -> Any:
    async with connect(config) as api:
        return (await api.post(path, body))[0]


async def made(api: Api, file: Path, endpoint: str) -> dict[str, Any]:
    """Upload a file and make a batch of it."""
    uploaded = await api.upload("/v1/files", file, {"purpose": "batch"})
    asked = {"input_file_id": uploaded["id"], "endpoint": endpoint, "completion_window": "24h"}
    try:
        return dict((await api.post("/v1/batches", asked))[0])
    except ApiError:
        # Nobody would know of the file.
        await api.delete(f"/v1/files/{uploaded['id']}")
        raise


async def handed_in(config: Path | None, file: Path, endpoint: str, as_json: bool) -> None:
    async with connect(config) as api:
        batch = await made(api, file, endpoint)
        show_made(batch, as_json)
        if api.inside:
            tell(
                "No daemon runs. The batch goes on with `oproxy serve`, or as long as "
                f"`oproxy batch watch {batch['id']}` waits for it."
            )
        else:
            tell(f"`oproxy batch watch {batch['id']}` waits for it.")


async def submitted(config: Path | None, file: Path, endpoint: str, as_json: bool) -> dict[str, Any]:
    async with connect(config) as api:
        batch = await made(api, file, endpoint)
        if not as_json:
            show_made(batch, as_json)
        batch = await until_over(api, batch["id"])
    if as_json:
        print_json(batch)
    return batch


async def watched(config: Path | None, id: str, as_json: bool) -> dict[str, Any]:
    async with connect(config) as api:
        batch = await until_over(api, id)
    if as_json:
        print_json(batch)
    return batch


async def until_over(api: Api, id: str) -> dict[str, Any]:
    """Return a batch once it is over; show how far it is until then."""
    path = f"/v1/batches/{quote(id, safe='')}"
    batch: dict[str, Any] = await api.get(path)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = errors()
    with progress(*columns, disable=not screen.is_terminal) as shown:
        bar = shown.add_task(batch["status"], total=None)
        said = ""
        while True:
            counts = batch["request_counts"]
            answered = counts["completed"] + counts["failed"]
            shown.update(bar, description=batch["status"], completed=answered, total=counts["total"] or None)
            if not screen.is_terminal and batch["status"] != said:
                said = batch["status"]
                tell(f"{said}, {answered} of {counts['total']}" if counts["total"] else said)
            if batch["status"] in OVER:
                return batch
            await asyncio.sleep(LOOK)
            batch = await api.get(path)


async def fetched(config: Path | None, id: str, output: Path | None, only_errors: bool) -> int:
    """Write a batch's results; return how many bytes they have."""
    async with connect(config) as api:
        batch = await api.get(f"/v1/batches/{quote(id, safe='')}")
        file = batch["error_file_id" if only_errors else "output_file_id"]
        if file is None:
            raise Failure(nothing(batch, only_errors))
        size = 0
        # Opened only when there is something to write. A link is followed: the person has named it.
        with Bytes() if output is None else output.open("wb") as target:
            async for data in api.download(f"/v1/files/{file}/content"):
                size += len(data)
                await asyncio.to_thread(target.write, data)
            await asyncio.to_thread(target.flush)
    return size


# --- what is said -------------------------------------------------------------------------------------------------


def nothing(batch: dict[str, Any], only_errors: bool) -> str:
    """Say why there are no results."""
    id, status = batch["id"], batch["status"]
    if status not in OVER:
        return f"{id} is {status}: there are results when it is over. `oproxy batch watch {id}` waits for that."
    if only_errors:
        return f"No request of {id} failed." if status == "completed" else f"{id} is {status}, and has no errors file."
    if batch["error_file_id"]:
        return f"No request of {id} was answered. `oproxy batch results {id} --errors` prints why."
    return f"{id} is {status}, and has no results. `oproxy batch show {id}` tells more."


def show_made(batch: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(batch)
    else:
        echo(batch["id"])


def finish(batch: dict[str, Any]) -> None:
    """Say how a batch has ended, and end with status 1 unless it is completed."""
    counts, id = batch["request_counts"], batch["id"]
    told = f"{id} is {batch['status']}: {counts['completed']} of {counts['total']} answered"
    if counts["failed"]:
        told += f", {counts['failed']} failed (`oproxy batch results {id} --errors`)"
    if batch["status"] != "completed":
        raise Failure("\n".join([f"{told}.", *faults(batch)]))
    tell(f"{told}. `oproxy batch results {id}` prints the answers.")


def faults(batch: dict[str, Any]) -> list[str]:
    found = (batch["errors"] or {}).get("data") or []
    return [f"line {each['line']}: {each['message']}" if each["line"] else each["message"] for each in found]


def when(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
