"""`lookalike feedback`: impressions and clicks of a day into the tables, joined, and reported per release."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import typer

from lookalike.cli.console import Console


def feedback(
    context: typer.Context,
    day: Annotated[str | None, typer.Option(help="UTC day, e.g. 2026-11-20; default: yesterday")] = None,
) -> None:
    """Archive what searches showed and what was clicked; report on a day, and again on the day before it."""
    from lookalike.line.feedback import feedback as run

    console: Console = context.obj
    chosen = parse_day(day) if day is not None else datetime.now(UTC).date() - timedelta(days=1)
    report = run(console.settings, chosen, console.progress)
    for each in report.reports:
        if each.rows:
            console.table(
                f"{each.day} (revision {each.revision}{'' if each.rows[0]['closed'] else ', clicks may still come'})",
                ("release", "searched by", "answers", "clicked", "CTR", "MRR", "carts", "purchases", "orphans"),
                [_cells(row) for row in each.rows],
            )
    done = report.archived
    lost = f" ({done.expired:,} messages had expired)" if done.expired else ""
    revised = [str(each.day) for each in report.reports if each.revised]
    console.done(
        f"archived {done.impressions:,} impressions and {done.clicks:,} clicks{lost}; "
        + (f"reported on {' and '.join(revised)}" if revised else "nothing new to report"),
        {
            "day": report.day.isoformat(),
            "archived": report.archived,
            "reports": [
                {
                    "day": each.day.isoformat(),
                    "revision": each.revision,
                    "revised": each.revised,
                    "rows": [row | {"day": row["day"].isoformat()} for row in each.rows],
                }
                for each in report.reports
            ],
        },
    )


def parse_day(text: str) -> date:
    """An option's day."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a day; write it like 2026-11-20") from error


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    rates = ["" if row[name] is None else f"{row[name]:.3f}" for name in ("ctr", "mrr_first_click")]
    counts = [f"{row[name]:,}" for name in ("impressions", "clicked", "carts", "purchases", "orphan_clicks")]
    return (row["release"], row["query_kind"], *counts[:2], *rates, *counts[2:])


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command()(feedback)
