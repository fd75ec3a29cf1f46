"""The address to listen on: a taken port and a wrong host are clear errors, port 0 takes a free one."""

import pytest

from lookalike.contracts.errors import LookalikeError
from lookalike.serving.server import listen


def test_port_zero_takes_a_free_one_and_a_taken_one_is_named():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        with pytest.raises(LookalikeError, match=rf"port {port} of 127\.0\.0\.1 is in use.*serving\.port"):
            listen("127.0.0.1", port)


def test_a_host_that_is_none_is_named():
    with pytest.raises(LookalikeError, match=r"serving\.host = 'not a host'"):
        listen("not a host", 0)
    with pytest.raises(LookalikeError, match=r"192\.0\.2\.1"):
        listen("192.0.2.1", 0)
