"""A process of its own that uses a log: `append N` once told to, or `write NAME THREADS N` until killed or done."""

import hashlib
import json
import sys
import threading
import time

from lookalike.contracts.change import Topic
from lookalike.contracts.settings import load_settings
from lookalike.storage.log.opening import open_log
from lookalike.storage.log.port import LogUnavailable, Message

_printing = threading.Lock()


def say(what) -> None:
    with _printing:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def checked(name: str, number: int) -> bytes:
    """A value that shows when a part of it is missing."""
    body = f"{name}:{number}:" + name * (number % 700)
    return f"{hashlib.sha256(body.encode()).hexdigest()}:{body}".encode()


def append(log, count: int) -> None:
    say("ready")
    sys.stdin.readline()
    messages = [Message(f"item-{number}".encode(), f"value {number}".encode()) for number in range(count)]
    say([[place.partition, place.offset] for place in log.append(Topic.CHANGES, messages)])
    time.sleep(3600)  # it ends by being killed


def write(log, name: str, threads: int, count: int) -> None:
    """Each thread appends `count` messages under a key of its own, three at a time; says what was acknowledged."""

    def run(thread: int) -> None:
        key = f"{name}-{thread}"
        for first in range(0, count, 3):
            numbers = range(first, min(first + 3, count))
            messages = [Message(key.encode(), checked(key, number)) for number in numbers]
            while True:
                try:
                    places = log.append(Topic.CHANGES, messages)
                    break
                except LogUnavailable:
                    say([key, "unavailable", first])
            for number, place in zip(numbers, places, strict=True):
                say([key, number, place.partition, place.offset])

    running = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


if __name__ == "__main__":
    given, command, *arguments = sys.argv[1:]
    opened = open_log(load_settings(**json.loads(given)))
    if command == "append":
        append(opened, int(arguments[0]))
    else:
        write(opened, arguments[0], int(arguments[1]), int(arguments[2]))
    opened.close()
