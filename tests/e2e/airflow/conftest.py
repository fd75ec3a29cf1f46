"""A real Airflow and a real server over a catalogue of 300 items, started by the command that people start them with,
and the acts of an on-call engineer: trigger, watch, read logs, answer, backfill, kill."""

import base64
import ctypes
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from lookalike.catalogue.snapshot import SnapshotWriter, read_snapshot
from lookalike.contracts.settings import load_settings

USER = "ada"
START_SECONDS, RUN_SECONDS, STOP_SECONDS = 400, 600, 90
ENDED = {"success", "failed"}
NIGHTLY, RELEASE, FIRST = "catalogue_nightly", "index_release", "2026-11-10"
CONCEPTS, BRANDS = 62, 5
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Airflow's own place for what a deployment wants otherwise: tries follow at once here, as nobody wants to wait.
LOCAL_SETTINGS = """
from datetime import timedelta


def task_policy(task):
    task.retry_delay, task.retry_exponential_backoff = timedelta(seconds=2), 0
"""

# Whoever is to be told is told here as well.
HOUSE_SETTINGS = """
[notify]
kind = "webhook"
url = "{webhook}"
"""

# A picture shall not show where the tests of one machine lie.
HIDE_PATH = """(home) => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) walk.currentNode.data = walk.currentNode.data.replaceAll(home, "var");
}"""


def wait_for(what: str, found, seconds: float, every: float = 1.0):
    """The first true answer of `found()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if answer := found():
                return answer
        time.sleep(every)
    pytest.fail(f"{what}: not within {seconds:.0f} s", pytrace=False)


def _end_with_parent() -> None:
    """The house must not outlive the tests, not even when they are killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Nights:
    """Snapshots of chosen nights: each says what the whole catalogue was then."""

    def __init__(self, snapshot: Path, home: Path) -> None:
        rows = list(read_snapshot(snapshot).rows())
        brands: dict[str, set] = {}
        for row in rows:
            brands.setdefault(row["group_id"], set()).add(row["brand"])
        whole = [group for group, of in sorted(brands.items()) if len(of) == BRANDS]
        chosen = set(whole[:: len(whole) // CONCEPTS][:CONCEPTS])
        self.rows = {row["item_id"]: row for row in rows if row["group_id"] in chosen}
        self.groups = sorted(chosen)
        self.home = home

    def write(self, day: str, rows: dict[str, dict]) -> None:
        """The night's snapshot, complete: what it does not name is withdrawn."""
        writer = SnapshotWriter(self.home / "snapshots", f"night-{day}")
        writer.write(0, rows.values())
        folder = writer.finish("icons", complete=True, name=f"icons-{day}").folder
        described = json.loads((folder / "snapshot.json").read_text())
        described["created_at"] = f"{day}T21:00:00+00:00"
        (folder / "snapshot.json").write_text(json.dumps(described))

    def of(self, groups: int) -> dict[str, dict]:
        """All items of the first so many concepts."""
        names = set(self.groups[:groups])
        return {item: dict(row) for item, row in self.rows.items() if row["group_id"] in names}

    @staticmethod
    def changed(rows: dict[str, dict], items: list[str], by: int, **values) -> dict[str, dict]:
        """The same rows, those of `items` with other values in a version later by so many seconds."""
        new = {item: dict(row) for item, row in rows.items()}
        for item in items:
            new[item] |= values | {"version": new[item]["version"] + by}
        return new


class Inbox:
    """The other end of the webhook: keeps every message."""

    def __init__(self) -> None:
        messages: list[dict] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.messages = messages
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/house"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of_run(self, run: str) -> list[dict]:
        """What was told of a run."""
        return [message for message in self.messages if message["run"] == run]


class House:
    """`lookalike airflow` as a process, and Airflow's REST API."""

    def __init__(self, home: Path, inbox: Inbox) -> None:
        self.home, self.inbox, self.settings = home, inbox, load_settings(home=home)
        self.folder = home / "airflow"
        self.log = home / "logs" / "airflow.log"
        self._http = httpx.Client(timeout=60)

    wait_for = staticmethod(wait_for)
    user = USER

    # -- the command ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and log in."""
        (self.folder / "config").mkdir(parents=True, exist_ok=True)
        (self.folder / "config" / "airflow_local_settings.py").write_text(LOCAL_SETTINGS)
        (self.home / "lookalike.toml").write_text(HOUSE_SETTINGS.format(webhook=self.inbox.url))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "lookalike.cli", "--home", str(self.home), "airflow"]
        command += ["--port", "0", "--server-port", "0", "--user", USER]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.home,
                start_new_session=True, preexec_fn=_end_with_parent, env=os.environ | {"COLUMNS": "200"},  # noqa: PLW1509
            )  # fmt: skip
        wait_for("Airflow is up", self._greeted, START_SECONDS)
        text = self.log.read_text()
        self.url = re.search(r"Airflow: (http://\S+)", text)[1]
        self.server = re.search(r"search:\s+(http://\S+)", text)[1]
        self.password = re.search(rf"user {USER}, password (\S+)\)", text)[1]
        self.token = self._checked(
            self._http.post(f"{self.url}/auth/token", json={"username": USER, "password": self.password})
        )["access_token"]
        self._http.headers["Authorization"] = f"Bearer {self.token}"

    def _greeted(self) -> bool:
        text = self.log.read_text()
        assert self.process.poll() is None, text[-4000:]
        return "Ctrl-C stops all" in text

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    def processes(self) -> dict[int, list[str]]:
        """What runs with this home's Airflow in its environment, by process."""
        wanted, found = f"AIRFLOW_HOME={self.folder}".encode(), {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    found[int(entry.name)] = [word for word in words if word]
        return found

    def kill_verb(self, *verb: str, seconds: float = RUN_SECONDS) -> int:
        """SIGKILL the process of `lookalike VERB…` that a task runs now, once it is well under way."""

        def running() -> int | None:
            for pid, words in self.processes().items():
                if words[1:3] == ["-m", "lookalike.cli"] and words[4 : 4 + len(verb)] == list(verb):
                    return pid
            return None

        pid = wait_for(f"`lookalike {' '.join(verb)}` runs", running, seconds, every=0.05)
        time.sleep(1.0)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_scheduler(self) -> None:
        """SIGKILL the scheduler alone; its workers and the tasks in them live on."""
        ours = [
            pid for pid, words in self.processes().items() if "scheduler" in words and _parent(pid) == self.process.pid
        ]
        assert len(ours) == 1, self.processes()
        os.kill(ours[0], signal.SIGKILL)

    # -- Airflow's API -------------------------------------------------------------------------------------------

    def _checked(self, answer: httpx.Response):
        assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        return answer.json()

    def get(self, path: str, **query):
        return self._checked(self._http.get(f"{self.url}/api/v2{path}", params=query))

    def pause(self, dag: str, paused: bool) -> None:
        self._checked(self._http.patch(f"{self.url}/api/v2/dags/{dag}", json={"is_paused": paused}))

    def trigger(self, dag: str, **conf) -> str:
        body = {"logical_date": None, "conf": conf}
        return self._checked(self._http.post(f"{self.url}/api/v2/dags/{dag}/dagRuns", json=body))["dag_run_id"]

    def runs(self, dag: str) -> dict[str, str]:
        """State of each run by its id, oldest first."""
        found = self.get(f"/dags/{dag}/dagRuns", order_by="run_after", limit=100)["dag_runs"]
        return {run["dag_run_id"]: run["state"] for run in found}

    def finished(self, dag: str, run: str, seconds: float = RUN_SECONDS) -> str:
        """Wait for the end of a run; its state."""
        return wait_for(f"{dag} {run} ends", lambda: self._end_of(dag, run), seconds)

    def succeeds(self, dag: str, run: str) -> None:
        """Wait for the end of a run, which must be a good one."""
        assert self.finished(dag, run) == "success", self.explain(dag, run)

    def _end_of(self, dag: str, run: str) -> str | None:
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        state = self.get(f"/dags/{dag}/dagRuns/{run}")["state"]
        return state if state in ENDED else None

    def next_run(self, dag: str, known: set[str], seconds: float = 120) -> str:
        """Wait for a run that is not among `known`."""
        return next(iter(wait_for(f"a run of {dag} starts", lambda: set(self.runs(dag)) - known, seconds)))

    def tasks(self, dag: str, run: str) -> dict[str, dict]:
        """Task instances by name; a mapped one as NAME[i]."""
        found = self.get(f"/dags/{dag}/dagRuns/{run}/taskInstances", limit=100)["task_instances"]
        return {one["task_id"] + (f"[{one['map_index']}]" if one["map_index"] >= 0 else ""): one for one in found}

    def states(self, dag: str, run: str) -> dict[str, str]:
        return {name: one["state"] for name, one in self.tasks(dag, run).items()}

    def task_log(self, dag: str, run: str, task: str) -> str:
        """What the UI shows as the log of the task's last try."""
        tried = self.tasks(dag, run)[task]["try_number"]
        content = self.get(f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{tried}", full_content=True)["content"]
        return "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in content)

    def explain(self, dag: str, run: str) -> str:
        """For a run that went wrong: states, and the logs of what failed."""
        states = self.states(dag, run)
        logs = [f"--- {task}\n{self.task_log(dag, run, task)[-3000:]}" for task in states if states[task] == "failed"]
        return "\n".join([f"{dag} {run}: {states}", *logs])

    def question(self, dag: str, run: str) -> dict | None:
        """What a person is asked in this run, once it is."""
        assert self.get(f"/dags/{dag}/dagRuns/{run}")["state"] != "failed", self.explain(dag, run)
        found = self.get(f"/dags/{dag}/dagRuns/{run}/hitlDetails")["hitl_details"]
        return found[0] if found else None

    def answer(self, dag: str, run: str, task: str, option: str) -> dict:
        """A person's answer under *Required actions*."""
        path = f"{self.url}/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/-1/hitlDetails"
        return self._checked(self._http.patch(path, json={"chosen_options": [option], "params_input": {}}))

    def delete_run(self, dag: str, run: str) -> None:
        answer = self._http.delete(f"{self.url}/api/v2/dags/{dag}/dagRuns/{run}")
        assert answer.is_success, answer.text

    def deadlines(self, dag: str, run: str) -> list[dict]:
        """Deadlines of a run that Airflow still keeps, as its page shows them."""
        return self._checked(self._http.get(f"{self.url}/ui/dags/{dag}/dagRuns/{run}/deadlines"))["deadlines"]

    def let_deadline_pass(self, dag: str, run: str) -> str:
        """Nobody waits for hours: the run's deadline becomes a moment ago. End state of its callback."""
        [deadline] = self.deadlines(dag, run)
        key, past = deadline["id"].replace("-", ""), f"{datetime.now(UTC) - timedelta(seconds=1):%Y-%m-%d %H:%M:%S.%f}"
        with closing(sqlite3.connect(self.folder / "airflow.db", timeout=60)) as database, database:
            changed = database.execute("UPDATE deadline SET deadline_time = ? WHERE id = ?", (past, key)).rowcount
        assert changed == 1
        asked = "SELECT callback.state FROM callback JOIN deadline ON callback.id = callback_id WHERE deadline.id = ?"

        def ended() -> str | None:
            with closing(sqlite3.connect(self.folder / "airflow.db", timeout=60)) as database:
                [state] = database.execute(asked, (key,)).fetchone()
            return state if state in ENDED else None

        return wait_for("the deadline's callback ends", ended, 120)

    def callback_log(self, dag: str, run: str) -> str:
        """What the callbacks of a run's deadlines logged."""
        logs = self.folder / "logs" / "executor_callbacks" / dag / run
        return "\n".join(path.read_text() for path in sorted(logs.glob("*")))

    def cancel_backfill(self, number: int) -> int:
        self._checked(self._http.put(f"{self.url}/api/v2/backfills/{number}/cancel"))
        return number

    def airflow(self, *words: str) -> subprocess.CompletedProcess:
        """Airflow's own command, by hand, as the greeting says."""
        return subprocess.run(
            [sys.executable, "-m", "airflow", *words], env=os.environ | {"AIRFLOW_HOME": str(self.folder)},
            capture_output=True, text=True, timeout=300, cwd=self.home,
        )  # fmt: skip

    # -- the searchers -------------------------------------------------------------------------------------------

    def serving(self) -> dict | None:
        """The release that the server answers from, in its own words."""
        answer = httpx.get(f"{self.server}/v1/release", timeout=30)
        return answer.json() if answer.status_code == 200 else None

    def served(self) -> str | None:
        """Its version."""
        serving = self.serving()
        return serving["release"] if serving else None

    def wait_served(self, version: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while self.served() != version and time.monotonic() < deadline:
            time.sleep(0.2)
        assert self.served() == version

    def hits(self, item: str, k: int = 10) -> list[tuple[str, float]]:
        """What a search with the item's own picture finds."""
        picture = httpx.get(f"{self.server}/v1/items/{item}/picture", timeout=30).raise_for_status().content
        parts = [{"picture": base64.b64encode(picture).decode()}]
        answer = httpx.post(f"{self.server}/v1/search", json={"parts": parts, "k": k}, timeout=30)
        assert answer.status_code == 200, answer.text
        return [(hit["item_id"], hit["score"]) for hit in answer.json()["hits"]]

    def lookalike(self, *words: str) -> subprocess.CompletedProcess:
        """The command line, by hand."""
        command = [sys.executable, "-m", "lookalike.cli", "--home", str(self.home), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def releases(self) -> dict:
        done = self.lookalike("--json", "releases")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ledger(self) -> list[dict]:
        """Entries of the ledger, oldest first."""
        return sorted(self.releases()["ledger"], key=lambda entry: entry["at"])

    def moves(self) -> list[tuple[str, str]]:
        """What the ledger says of the pointer, oldest first."""
        return [
            (entry["action"], entry["version"])
            for entry in self.ledger()
            if entry["action"] in ("promoted", "rolled_back", "moved")
        ]

    def aliases(self) -> dict[str, str]:
        """Version by alias."""
        return {
            alias: one["version"]
            for one in self.releases()["releases"]
            for alias in one["aliases"].split(", ")
            if alias
        }


@pytest.fixture(scope="session")
def house_home(demo_home, tmp_path_factory) -> Path:
    """An empty home but for the demo's pictures and its JARs, which need not be fetched again."""
    home = tmp_path_factory.mktemp("house") / "home"
    home.mkdir()
    for shared in ("pictures", "jars", "packages"):
        if (demo_home.home / shared).is_dir():
            (home / shared).symlink_to(demo_home.home / shared)
    return home


@pytest.fixture(scope="session")
def nights(demo_home, house_home) -> Nights:
    return Nights(next((demo_home.home / "snapshots").glob("icons-*")), house_home)


@pytest.fixture(scope="session")
def inbox():
    inbox = Inbox()
    yield inbox
    inbox.close()


@pytest.fixture(scope="session")
def house(house_home, nights, inbox):
    """Airflow and the server over a catalogue whose nights are there and whose tables are not yet.

    One house for all files of this folder, which go on from one another in the order of their names; the last ends it.
    """
    nights.write("2026-11-09", nights.of(1))  # a home with a catalogue of its own does not get the demo's
    house = House(house_home, inbox)
    try:
        house.start()
        yield house
    finally:
        house.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            house.process.wait(STOP_SECONDS)
        house.process.kill()


@pytest.fixture(scope="session")
def open_house(house, nights) -> House:
    """The house with a release that answers: of the tests before, or, where they did not run, of a first night."""
    if house.served() is None:
        house.pause(NIGHTLY, False)
        too_early = house.next_run(NIGHTLY, set())
        assert house.finished(NIGHTLY, too_early) == "failed"
        nights.write(FIRST, nights.of(50))
        house.succeeds(NIGHTLY, house.trigger(NIGHTLY, night=FIRST))
        house.succeeds(RELEASE, house.next_run(RELEASE, set()))
        house.wait_served("1")
    return house


class Camera:
    """Airflow's pages in headless Chromium, as the logged-in person sees them."""

    def __init__(self, browser, house: House, folder: Path) -> None:
        self._browser, self._house, self.folder = browser, house, folder
        folder.mkdir(parents=True, exist_ok=True)

    def take(
        self, name: str, path: str, *texts: str, view: str = "grid", panel: int = 60, size=(1600, 760), look=None
    ) -> Path:
        """A picture of the page once it shows each of `texts`. `view`: grid or graph; `panel`: its share in percent;
        `look`: is given the page before the picture is taken."""
        context = self._browser.new_context(viewport={"width": size[0], "height": size[1]}, locale="en-GB")
        context.set_default_timeout(60_000)
        context.add_cookies([{"name": "_token", "value": self._house.token, "url": self._house.url}])
        shares = {"details-panel,main-panel": {"expandToSizes": {}, "layout": [panel, 100 - panel]}}
        kept = {"default_dag_view": json.dumps(view), f"react-resizable-panels:{view}-ltr": json.dumps(shares)}
        context.add_init_script(f"Object.entries({json.dumps(kept)}).forEach(([k, v]) => localStorage.setItem(k, v))")
        try:
            page = context.new_page()
            page.goto(self._house.url + path)
            for text in texts:
                page.get_by_text(text).first.wait_for()
            page.wait_for_timeout(2_000)  # the graph moves into its place
            if look is not None:
                look(page)
            page.evaluate(HIDE_PATH, str(self._house.home))
            page.screenshot(path=self.folder / f"{name}.png")
        finally:
            context.close()
        return self.folder / f"{name}.png"


@pytest.fixture(scope="module")
def camera(house, tmp_path_factory):
    """AIRFLOW_PICTURES names a folder to keep the pictures in, e.g. docs/pictures."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.fail("the pictures need Chromium on the PATH: apt-get install chromium", pytrace=False)
    kept = os.environ.get("AIRFLOW_PICTURES")
    folder = Path(kept).absolute() if kept else tmp_path_factory.mktemp("pictures")
    with sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield Camera(browser, house, folder)
        browser.close()
