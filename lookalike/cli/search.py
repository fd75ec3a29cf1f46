"""`lookalike search`: words, pictures and items in any mix, answered by the live release without a server."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from lookalike.cli.console import Console
from lookalike.contracts.errors import BadQuery
from lookalike.contracts.query import Filter, QueryPart, SearchAnswer, SearchQuery


def parse_filter(text: str) -> Filter:
    """`brand=noto|twemoji`, `tags!=flag`, `price>=2.5`, `price<=9` as a Filter. Raises BadQuery."""
    for sign, key in ((">=", "at_least"), ("<=", "at_most"), ("!=", "none_of"), ("=", "any_of")):
        field, found, value = text.partition(sign)
        if found:
            wanted = value if key in {"at_least", "at_most"} else value.split("|")
            try:
                return Filter.model_validate({"field": field.strip(), key: wanted})
            except ValidationError as error:
                raise BadQuery(f"filter {text!r}: {value!r} does not fit {sign}") from error
    raise BadQuery(f"filter {text!r}: write FIELD=A|B, FIELD!=A, FIELD>=1 or FIELD<=2")


def _picture(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadQuery(f"picture {path}: {error.strerror}") from error


def _parts(words: str | None, pictures: list[Path], items: list[str], less_like: list[str]) -> tuple[QueryPart, ...]:
    return (
        *([QueryPart(text=words)] if words else []),
        *(QueryPart(picture=_picture(path)) for path in pictures),
        *(QueryPart(item_id=item) for item in items),
        *(QueryPart(text=text, weight=-0.5) for text in less_like),
    )


def _show(console: Console, answer: SearchAnswer) -> None:
    rows = [
        (
            rank,
            f"{hit.score:.3f}",
            hit.item_id,
            hit.product.get("title"),
            hit.product.get("brand"),
            hit.product["licence"],
        )
        for rank, hit in enumerate(answer.hits, start=1)
    ]
    console.table(f"release {answer.release}", ("", "score", "item", "title", "brand", "licence"), rows)


def search(
    context: typer.Context,
    words: Annotated[str | None, typer.Argument(help="what to look for")] = None,
    picture: Annotated[list[Path] | None, typer.Option(help="picture file (repeat for more)")] = None,
    item: Annotated[list[str] | None, typer.Option(help="item id: more like this")] = None,
    less_like: Annotated[list[str] | None, typer.Option(help="words to move away from")] = None,
    where: Annotated[list[str] | None, typer.Option(help="brand=noto|twemoji, tags!=flag, price<=9")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="how many")] = 12,
    sheet: Annotated[Path | None, typer.Option(help="contact sheet PNG; default: HOME/reports/search.png")] = None,
) -> None:
    """Search the live release; prints a table and writes a contact sheet."""
    console: Console = context.obj
    parts = _parts(words, picture or [], item or [], less_like or [])
    if not parts:
        raise BadQuery("say what to look for: words, --picture FILE or --item ID")
    filters = tuple(parse_filter(text) for text in where or [])
    from lookalike.cli.contact_sheet import write_contact_sheet
    from lookalike.line.search import open_live

    live = open_live(console.settings)
    answer = live.engine.search(SearchQuery(parts=parts, filters=filters, k=k))
    _show(console, answer)
    path = sheet or console.settings.reports_root / "search.png"
    write_contact_sheet(path, answer, live.read_picture)
    console.done(
        f"{len(answer.hits)} of {answer.matching:,} items ({answer.plan}, {answer.took_ms['total']:.1f} ms), "
        f"release {answer.release}; contact sheet {path}",
        answer,
    )


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command()(search)
