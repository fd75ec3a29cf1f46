"""Guarded fetching against a real server of this machine; names and other networks come from a resolver of the test."""

import ipaddress
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lookalike.catalogue import fetch as fetch_module
from lookalike.catalogue.fetch import Fetcher, is_allowed
from lookalike.catalogue.intake import inspect_picture, read_picture
from lookalike.contracts.product import Refusal, RefusalReason
from lookalike.contracts.settings import IntakeSettings

LOCAL = ("127.0.0.0/8", "::1/128")
OPEN = IntakeSettings(private_networks=LOCAL, max_picture_bytes=100_000, fetch_tries=1, fetch_timeout_seconds=5)
CLOSED = IntakeSettings(max_picture_bytes=100_000, fetch_tries=1, fetch_timeout_seconds=5)


def fetched(address, limits=OPEN, timeout=5.0, resolve=None):
    fetcher = Fetcher(limits.private_networks, *([resolve] if resolve else []))
    try:
        return fetcher.fetch(address, limits, timeout)
    finally:
        fetcher.close()


def reason(result):
    assert isinstance(result, Refusal), result
    return result.reason


FORBIDDEN = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1",
    "ff02::1", "2001:db8::1", "2001::1", "100::1", "4000::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_are_not_public_are_not_allowed(address):
    assert not is_allowed(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    assert is_allowed(address, ())


def test_named_networks_are_allowed_and_nothing_beside_them():
    assert is_allowed("10.1.2.3", ("10.1.0.0/16",))
    assert is_allowed("::ffff:10.1.2.3", ("10.1.0.0/16",))
    assert not is_allowed("10.2.2.3", ("10.1.0.0/16",))
    assert not is_allowed("::1", ("127.0.0.0/8",))
    for number in range(0, 2**32, 2**32 // 997):  # spread over all of IPv4, against the standard's own list
        address = ipaddress.IPv4Address(number)
        expected = address.is_global and not address.is_multicast and number < 0xF0000000
        assert is_allowed(str(address), ()) is expected, address


def test_a_picture_is_fetched_and_its_host_is_named(web, encode):
    assert fetched(f"{web.url}/picture") == encode()
    assert web.seen[-1].headers["Host"] == f"127.0.0.1:{web.port}"
    assert "Cookie" not in web.seen[-1].headers
    shop = fetched(f"http://shop.example:{web.port}/picture", resolve=lambda host, port: ["127.0.0.1"])
    assert shop == encode()
    assert web.seen[-1].headers["Host"] == f"shop.example:{web.port}"


def test_without_leave_nothing_of_this_machine_is_reached(web, tmp_path):
    for host in ("127.0.0.1", "localhost", "2130706433", "127.1", "0x7f000001", "[::ffff:127.0.0.1]", "[::1]"):
        refused = fetched(f"http://{host}:{web.port}/picture", CLOSED)
        assert reason(refused) is RefusalReason.PICTURE_FORBIDDEN_ADDRESS, host
        assert "intake.private_networks" in refused.detail
    assert reason(read_picture(f"{web.url}/picture", tmp_path, CLOSED)) is RefusalReason.PICTURE_FORBIDDEN_ADDRESS
    assert web.seen == []


def test_one_private_address_among_public_ones_forbids_the_name(web):
    refused = fetched(f"http://mixed.example:{web.port}/x", CLOSED, resolve=lambda *_: ["1.1.1.1", "10.0.0.5"])
    assert reason(refused) is RefusalReason.PICTURE_FORBIDDEN_ADDRESS
    assert "10.0.0.5" in refused.detail


def test_a_name_that_answers_differently_the_second_time_gains_nothing(web, monkeypatch):
    answers = iter([["203.0.113.7"], ["127.0.0.1"]])
    connected = []
    real = socket.create_connection

    def recorded(address, *arguments, **options):
        connected.append(address[0])
        return real(("127.0.0.1", address[1]), *arguments, **options)  # what answers at the checked address

    monkeypatch.setattr(socket, "create_connection", recorded)
    limits = IntakeSettings(private_networks=("203.0.113.0/24",), fetch_tries=1)
    fetcher = Fetcher(limits.private_networks, lambda *_: next(answers))
    # The connection goes to the address that was checked, not to the name.
    assert isinstance(fetcher.fetch(f"http://rebind.example:{web.port}/picture", limits, 5.0), bytes)
    assert connected == ["203.0.113.7"]
    fetcher.close()  # a second connection asks and checks again
    refused = fetcher.fetch(f"http://rebind.example:{web.port}/picture", limits, 5.0)
    assert reason(refused) is RefusalReason.PICTURE_FORBIDDEN_ADDRESS
    assert connected == ["203.0.113.7"]


def test_redirects_are_followed_and_each_is_checked_again(web, encode):
    assert fetched(f"{web.url}/redirect?to=/picture") == encode()
    assert fetched(f"{web.url}/redirect?to=//127.0.0.1:{web.port}/picture") == encode()
    for target in ("http://169.254.169.254/latest/meta-data", "http://[::ffff:10.0.0.1]/", "http://192.168.0.1/"):
        refused = fetched(f"{web.url}/redirect?to={target}")
        assert reason(refused) is RefusalReason.PICTURE_FORBIDDEN_ADDRESS
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "http://a b/"):
        assert reason(fetched(f"{web.url}/redirect?to={target}")) is RefusalReason.PICTURE_MISSING


def test_a_public_host_may_not_redirect_to_this_machine(web):
    """The first host is reached at an address that is allowed; the second look-up gives this machine's."""
    limits = IntakeSettings(private_networks=("127.0.0.2/32",), fetch_tries=1)
    seen = len(web.seen)
    for target in (f"http://127.0.0.1:{web.port}/picture", f"http://localhost:{web.port}/picture"):
        refused = fetched(f"http://127.0.0.2:{web.port}/redirect?to={target}", limits)
        assert reason(refused) is RefusalReason.PICTURE_FORBIDDEN_ADDRESS
    assert len(web.seen) == seen + 2


def test_redirects_have_a_limit(web):
    limits = OPEN.model_copy(update={"max_redirects": 2})
    assert isinstance(fetched(f"{web.url}/hops?left=2", limits), bytes)
    refused = fetched(f"{web.url}/hops?left=3", limits)
    assert reason(refused) is RefusalReason.PICTURE_MISSING
    assert "2 times" in refused.detail
    assert reason(fetched(f"{web.url}/hops?left=-1", limits)) is RefusalReason.PICTURE_MISSING  # a ring


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 304])
def test_what_is_not_there_is_missing_and_not_asked_for_twice(web, tmp_path, status):
    limits = OPEN.model_copy(update={"fetch_tries": 3})
    refused = read_picture(f"{web.url}/status?code={status}", tmp_path, limits)
    assert reason(refused) is RefusalReason.PICTURE_MISSING
    assert str(status) in refused.detail
    assert len(web.seen) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_fault_that_may_pass_is_tried_again(web, tmp_path, monkeypatch, status):
    monkeypatch.setattr("lookalike.catalogue.intake._FIRST_PAUSE_SECONDS", 0.01)
    refused = read_picture(f"{web.url}/status?code={status}", tmp_path, OPEN, tries=3)
    assert reason(refused) is RefusalReason.PICTURE_UNAVAILABLE
    assert len(web.seen) == 3
    assert isinstance(read_picture(f"{web.url}/recovers?after=2", tmp_path, OPEN, tries=3), bytes)


def test_nobody_at_home_and_unknown_names_may_pass(free_port):
    assert reason(fetched(f"http://127.0.0.1:{free_port}/x")) is RefusalReason.PICTURE_UNAVAILABLE

    def unknown(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    refused = fetched("http://nowhere.example/x", resolve=unknown)
    assert reason(refused) is RefusalReason.PICTURE_UNAVAILABLE
    assert "Name or service not known" in refused.detail
    assert reason(fetched("http://nowhere.example/x", resolve=lambda *_: [])) is RefusalReason.PICTURE_UNAVAILABLE


def test_the_next_address_is_tried_when_one_does_not_answer(web, encode):
    both = fetched(f"http://two.example:{web.port}/picture", resolve=lambda *_: ["::1", "127.0.0.1"])
    assert both == encode()


def test_ten_gigabytes_announced_are_refused_unread(web):
    refused = fetched(f"{web.url}/announces?bytes={10 * 2**30}")
    assert reason(refused) is RefusalReason.PICTURE_TOO_MANY_BYTES
    assert "10,737,418,240" in refused.detail


def test_bytes_without_end_are_cut_at_the_limit(web, monkeypatch):
    taken = []
    real = fetch_module._TimedStream.read

    def counted(self, *arguments, **named):
        data = real(self, *arguments, **named)
        taken.append(len(data))
        return data

    monkeypatch.setattr(fetch_module._TimedStream, "read", counted)
    refused = fetched(f"{web.url}/endless")
    assert reason(refused) is RefusalReason.PICTURE_TOO_MANY_BYTES
    assert OPEN.max_picture_bytes < sum(taken) <= OPEN.max_picture_bytes + 2 * 2**16


@pytest.mark.parametrize("path", ["drip", "drip-headers", "silent"])
def test_a_slow_server_is_cut_off_at_one_deadline(web, path):
    started = time.monotonic()
    refused = fetched(f"{web.url}/{path}", timeout=0.6)
    assert reason(refused) is RefusalReason.PICTURE_UNAVAILABLE
    assert "0.6 s" in refused.detail
    assert 0.5 < time.monotonic() - started < 3


def test_redirects_share_the_deadline(web):
    limits = OPEN.model_copy(update={"max_redirects": 50})
    started = time.monotonic()
    assert reason(fetched(f"{web.url}/slow-hops", limits, timeout=0.6)) is RefusalReason.PICTURE_UNAVAILABLE
    assert time.monotonic() - started < 3


def test_a_look_up_that_hangs_is_left_behind():
    release = threading.Event()
    try:
        refused = fetched("http://slow.example/x", timeout=0.2, resolve=lambda *_: [str(release.wait(30))])
        assert reason(refused) is RefusalReason.PICTURE_UNAVAILABLE
        assert "looked up" in refused.detail
    finally:
        release.set()


def test_hanging_look_ups_cannot_pile_up_threads(monkeypatch):
    monkeypatch.setattr(fetch_module, "_LOOKUPS", threading.BoundedSemaphore(2))
    release, asked = threading.Event(), []

    def hang(host, _):
        asked.append(host)
        release.wait(30)
        return ["127.0.0.1"]

    for number in range(4):
        fetched(f"http://slow{number}.example/x", timeout=0.05, resolve=hang)
    assert asked == ["slow0.example", "slow1.example"]
    release.set()


def test_a_bomb_costs_no_decoding(web):
    bomb = fetched(f"{web.url}/bomb")
    assert isinstance(bomb, bytes)
    assert reason(inspect_picture(bomb, OPEN)) is RefusalReason.PICTURE_TOO_MANY_PIXELS
    packed = fetched(f"{web.url}/gzip")
    assert reason(packed) is RefusalReason.PICTURE_UNREADABLE
    assert "gzip" in packed.detail


def test_a_body_that_ends_early_may_pass(web):
    assert reason(fetched(f"{web.url}/short")) is RefusalReason.PICTURE_UNAVAILABLE


@pytest.mark.parametrize(
    "address", ["http://", "http://[bad/x", "http://a b/x", "https:///x", "http://x:99999/", "http://\x00/"]
)
def test_what_is_no_address_is_missing(tmp_path, address):
    assert reason(read_picture(address, tmp_path, OPEN)) is RefusalReason.PICTURE_MISSING


def test_proxies_of_the_environment_are_not_asked(web, monkeypatch, encode, free_port):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    assert fetched(f"{web.url}/picture") == encode()


def test_connections_are_kept_and_shared_by_threads(web, encode):
    fetcher = Fetcher(LOCAL)
    results = []

    def work():
        results.extend(fetcher.fetch(f"{web.url}/picture", OPEN, 5.0) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fetcher.close()
    assert results == [encode()] * 40
    assert len({request.client for request in web.seen}) <= 8


@pytest.fixture
def certificate(tmp_path):
    """A PEM file with the key and a certificate of shop.example that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "shop.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_https_names_and_checks_the_host_though_the_address_is_pinned(web, certificate, monkeypatch, encode):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    named = []
    context.sni_callback = lambda _, name, __: named.append(name)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    here = {"resolve": lambda *_: ["127.0.0.1"]}
    assert fetched(f"https://shop.example:{web.port}/picture", **here) == encode()
    assert web.seen[-1].headers["Host"] == f"shop.example:{web.port}"
    wrong = fetched(f"https://other.example:{web.port}/picture", **here)
    assert reason(wrong) is RefusalReason.PICTURE_UNAVAILABLE
    assert "certificate" in wrong.detail
    assert named == ["shop.example", "other.example"]
    monkeypatch.delenv("SSL_CERT_FILE")
    assert reason(fetched(f"https://shop.example:{web.port}/picture", **here)) is RefusalReason.PICTURE_UNAVAILABLE
    assert len(web.seen) == 1
