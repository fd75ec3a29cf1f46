"""Between gate and live: compare, approve, refuse; and after it: verify."""

from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.console import Console

if TYPE_CHECKING:
    from lookalike.line.compare import Answers, Comparison, ReadPicture

EXIT_CHECK_FAILED = 1

Version = Annotated[str, typer.Argument(help="release")]
By = Annotated[str | None, typer.Option(help="who decides; default: who runs this")]
Comment = Annotated[str, typer.Option(help="kept in the ledger")]


def approve(context: typer.Context, version: Version, by: By = None, comment: Comment = "") -> None:
    """Say yes to a release on its present verdict; with release.approval = person, `promote` demands it."""
    _decide(context, version, True, by, comment)


def refuse(context: typer.Context, version: Version, by: By = None, comment: Comment = "") -> None:
    """Say no to a release on its present verdict: neither `promote` nor a server takes it until it is approved."""
    _decide(context, version, False, by, comment)


def _decide(context: typer.Context, version: str, approved: bool, by: str | None, comment: str) -> None:
    from lookalike.line.releases import decide

    console: Console = context.obj
    line = decide(console.settings, version, approved, by, comment)
    verdict = (line.verdict_sha256 or "")[:12]
    console.done(f"release {version} is {line.action.value} by {line.actor} on verdict {verdict}", line)


def compare(
    context: typer.Context,
    version: Annotated[str | None, typer.Argument(help="release; default: the candidate")] = None,
) -> None:
    """Figures of a candidate beside those of live, and a contact sheet of the answers that changed most."""
    from lookalike.line.compare import compare as run

    console: Console = context.obj
    report, most, read_picture = run(console.settings, console.progress, version)
    _draw(report, most, read_picture)
    console.table(
        f"release {report.version} against live {report.live or '(none)'}",
        ("check", "", "candidate", "live", "bar"),
        [(m.name, "passed" if m.passed else "FAILED", m.candidate, m.live, m.bar) for m in report.metrics],
    )
    rows = [(c.question, f"{c.shared} of {max(len(c.live), len(c.candidate))}") for c in report.changed]
    console.table("changed most", ("question", "answers in common"), rows)
    verdict = {None: "none yet", True: "passed", False: "FAILED"}[report.passed]
    same = (
        "" if report.shared is None else f", {report.shared:.1%} of {report.questions} questions' answers are the same"
    )
    console.done(
        f"release {report.version} against live {report.live or '(none)'}: verdict {verdict}{same}; "
        f"contact sheet {report.sheet}",
        report,
    )


def _draw(report: "Comparison", most: "list[Answers]", read_picture: "ReadPicture") -> None:
    from lookalike.cli.contact_sheet import write_comparison_sheet

    names = f"live {report.live}", f"candidate {report.version}"
    rows = [(each.question, tuple(zip(names, (each.live, each.candidate), strict=True))) for each in most] or [
        ("no answer of the questions changed" if report.questions else "there is no other live release", ())
    ]
    write_comparison_sheet(report.sheet, rows, read_picture)


def verify(
    context: typer.Context,
    version: Annotated[str, typer.Argument(help="release that was promoted")],
    wait: Annotated[float | None, typer.Option(min=0, help="seconds for servers to follow; default: setting")] = None,
    servers: Annotated[int, typer.Option(min=0, help="so many servers are demanded at least")] = 0,
    or_rollback: Annotated[bool, typer.Option("--or-rollback", help="move `live` back when it does not hold")] = False,
) -> None:
    """Wait until every server answers from a release, then search each with canaries; exit 1 when one does not hold."""
    from lookalike.line.verify import verify as run

    console: Console = context.obj
    report = run(console.settings, version, wait, or_rollback, servers)
    console.table(
        f"release {version}",
        ("server", "", "serves", "found"),
        [(s.server, "holds" if s.held else "FAILED", s.release, s.found) for s in report.servers],
    )
    back = f"; rolled back: live is release {report.rolled_back.version}" if report.rolled_back is not None else ""
    said = f"verify {'holds' if report.passed else 'FAILED'} for release {version}: {report.why}{back}"
    console.done(f"{said} ({report.seconds:.1f} s)", report)
    if not report.passed:
        console.say(said)  # also where only JSON goes to stdout: a schedule shows the last line
        raise typer.Exit(EXIT_CHECK_FAILED)


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    for verb in (compare, approve, refuse, verify):
        app.command()(verb)
