"""Ctrl-C, and a second start. Last of this folder's files by its name: the house of the others ends here."""

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RELEASE = "index_release"


def test_ctrl_c_ends_all_of_it_and_a_second_start_goes_on(open_house):
    house = open_house
    runs, served = house.runs(RELEASE), house.served()
    assert runs and served
    ends_whole(house)
    house.start()
    assert house.runs(RELEASE) == runs
    house.wait_served(served)
    health = house.get("/monitor/health")
    assert {part["status"] for part in health.values()} == {"healthy"}
    ends_whole(house)


def ends_whole(house) -> None:
    assert house.stop() == 0
    assert house.processes() == {}
    for url in (house.url, house.server):
        with pytest.raises(httpx.TransportError):
            httpx.get(url)
