"""Fetch a picture over http(s) from an address that a stranger wrote: nothing inside the own network is reachable.

A name is looked up once, every address of it is checked, and the connection goes to a checked address, so that a name
that answers differently the second time gains nothing. Redirects are followed by hand and checked alike. One deadline
covers look-up, connection, headers and body: a server that sends a byte a second is cut off too.
"""

import ipaddress
import math
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache

import httpcore
import httpx

from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings

Resolve = Callable[[str, int], list[str]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_HEADERS: tuple[tuple[str | bytes, str | bytes], ...] = (
    ("User-Agent", "lookalike"),
    ("Accept", "image/*,*/*;q=0.8"),
    ("Accept-Encoding", "identity"),
)
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_REDIRECTS = (301, 302, 303, 307, 308)
_MAY_PASS = (408, 425, 429)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_CONNECTIONS = 64
_KEEP_ALIVE_SECONDS = 15.0
_LOOKUPS = threading.BoundedSemaphore(_CONNECTIONS)


class _Forbidden(Exception):
    """An address that may not be reached."""


class _Deadline(threading.local):
    """When the fetch of the current thread must be over, on the monotonic clock."""

    at = math.inf

    def left(self, error: type[Exception]) -> float:
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise error("the time for this picture is over")
        return seconds


def is_allowed(address: str, networks: Iterable[str]) -> bool:
    """Whether pictures may come from an IP address: global unicast, or inside one of `networks`.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, NAT64) is judged as that.
    """
    plain = _plain(ipaddress.ip_address(address))
    inside = (ipaddress.ip_network(network, strict=False) for network in networks)
    if any(plain in network for network in inside):
        return True
    if isinstance(plain, ipaddress.IPv6Address) and plain not in _GLOBAL_UNICAST:
        return False
    return plain.is_global and not plain.is_multicast and not plain.is_reserved


def _plain(address: _Address) -> _Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def resolve_name(host: str, port: int) -> list[str]:
    """All addresses of a name, in the system's order. Raises OSError."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every operation ends by the deadline of the thread that uses it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects to checked addresses only; httpcore still names the host in TLS and in the request."""

    def __init__(self, networks: tuple[str, ...], resolve: Resolve, deadline: _Deadline) -> None:
        self._networks, self._resolve, self._deadline = networks, resolve, deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._addresses(host, port)
        forbidden = [address for address in addresses if not is_allowed(address, self._networks)]
        if forbidden:
            raise _Forbidden(f"{host} has the address {forbidden[0]}")
        for place, address in enumerate(addresses, start=1):
            # An address that does not answer leaves time for the next one.
            share = self._deadline.left(httpcore.ConnectTimeout) / (len(addresses) - place + 1)
            try:
                stream = self._sockets.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if place == len(addresses):
                    raise
            else:
                return _TimedStream(stream, self._deadline)
        raise httpcore.ConnectError(f"{host} has no address")

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        return _in_time(lambda: self._resolve(host, port), self._deadline)


def _in_time(resolve: Callable[[], list[str]], deadline: _Deadline) -> list[str]:
    """A look-up by the system can hang for half a minute and takes no time limit, so a thread of its own waits."""
    found: list[list[str] | Exception] = []
    places = _LOOKUPS

    def look_up() -> None:
        try:
            found.append(resolve())
        except Exception as error:  # told to the waiting thread
            found.append(error)
        finally:
            places.release()

    if not places.acquire(timeout=deadline.left(httpcore.ConnectTimeout)):
        raise httpcore.ConnectTimeout("the name was not looked up in time")
    thread = threading.Thread(target=look_up, name="look-up", daemon=True)
    thread.start()
    thread.join(deadline.left(httpcore.ConnectTimeout))
    if not found:
        raise httpcore.ConnectTimeout("the name was not looked up in time")
    if isinstance(found[0], Exception):
        raise httpcore.ConnectError(f"the name cannot be looked up: {found[0]}") from found[0]
    return found[0]


class Fetcher:
    """Keeps connections between pictures of one host. Safe for several threads."""

    def __init__(self, networks: tuple[str, ...], resolve: Resolve = resolve_name) -> None:
        self._deadline = _Deadline()
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
            network_backend=_GuardedBackend(networks, resolve, self._deadline),
        )

    def fetch(self, address: str, limits: IntakeSettings, timeout: float) -> bytes | Refusal:
        """Bytes at an http(s) URL, within `limits` and `timeout` seconds in all, or the refusal.

        PICTURE_UNAVAILABLE is a fault that may pass: time-out, no connection, 408, 425, 429 or 5xx.
        """
        self._deadline.at = time.monotonic() + timeout
        try:
            return self._follow(address, limits)
        except _Forbidden as error:
            return Refusal(
                RefusalReason.PICTURE_FORBIDDEN_ADDRESS,
                f"{address}: {error}, which is not public; allowed are public addresses and intake.private_networks",
            )
        except httpcore.TimeoutException as error:
            return _unavailable(f"{address} was not here within {timeout:g} s ({error or type(error).__name__})")
        except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
            return _unavailable(f"{address} cannot be fetched now: {type(error).__name__}: {error}")
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, httpcore.LocalProtocolError, ValueError) as error:
            return _missing(f"{address} is not a usable http(s) address: {error}")

    def close(self) -> None:
        """Close kept connections."""
        self._pool.close()

    def _follow(self, address: str, limits: IntakeSettings) -> bytes | Refusal:
        url = httpx.URL(address)
        for _ in range(limits.max_redirects + 1):
            if not _is_usable(url):
                return _missing(f"{address} leads to {url}: allowed are http and https with a host and a port to 65535")
            answer = self._get(url, limits)
            if not isinstance(answer, httpx.URL):
                return answer
            url = answer
        return _missing(f"{address} is redirected more often than {limits.max_redirects} times")

    def _get(self, url: httpx.URL, limits: IntakeSettings) -> bytes | Refusal | httpx.URL:
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        timeouts = {"pool": self._deadline.left(httpcore.PoolTimeout)}
        headers = [("Host", url.netloc), *_HEADERS]
        with self._pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts}) as response:
            headers_of = {name.lower(): value.decode("latin-1") for name, value in response.headers}
            location = headers_of.get(b"location")
            if response.status in _REDIRECTS and location:
                return url.join(location)
            if not 200 <= response.status < 300:
                return _refused_status(url, response.status)
            encoding = headers_of.get(b"content-encoding", "identity")
            if encoding != "identity":
                return Refusal(
                    RefusalReason.PICTURE_UNREADABLE,
                    f"{url} came with Content-Encoding {encoding}, which was not asked for",
                )
            announced = headers_of.get(b"content-length", "0")
            if announced.isdigit() and int(announced) > limits.max_picture_bytes:
                return _too_many_bytes(f"{url} announces {int(announced):,}", limits)
            return _body(response, url, limits)


def _is_usable(url: httpx.URL) -> bool:
    host = url.raw_host.decode()
    named = _HOST.fullmatch(host) is not None or ":" in host  # httpx has checked the form of an IPv6 address
    return url.scheme in ("http", "https") and named and (url.port is None or 0 < url.port < 2**16)


def _body(response: httpcore.Response, url: httpx.URL, limits: IntakeSettings) -> bytes | Refusal:
    kept = bytearray()
    for chunk in response.iter_stream():
        kept += chunk
        if len(kept) > limits.max_picture_bytes:
            return _too_many_bytes(f"{url} has more than {limits.max_picture_bytes:,}", limits)
    return bytes(kept)


def fetch(address: str, limits: IntakeSettings, timeout: float) -> bytes | Refusal:
    """`Fetcher.fetch` on connections that this process keeps."""
    return _fetcher(limits.private_networks, os.getpid()).fetch(address, limits, timeout)


@lru_cache(maxsize=8)
def _fetcher(networks: tuple[str, ...], _process: int) -> Fetcher:
    # By process: a forked child must not write on its parent's connections.
    return Fetcher(networks)


def _refused_status(url: httpx.URL, status: int) -> Refusal:
    if status >= 500 or status in _MAY_PASS:
        return _unavailable(f"{url} answered {status}")
    return _missing(f"{url} answered {status}")


def _missing(detail: str) -> Refusal:
    return Refusal(RefusalReason.PICTURE_MISSING, detail)


def _unavailable(detail: str) -> Refusal:
    return Refusal(RefusalReason.PICTURE_UNAVAILABLE, detail)


def _too_many_bytes(what: str, limits: IntakeSettings) -> Refusal:
    return Refusal(RefusalReason.PICTURE_TOO_MANY_BYTES, f"{what} bytes; allowed are {limits.max_picture_bytes:,}")
