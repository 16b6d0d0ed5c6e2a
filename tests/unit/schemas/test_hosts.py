"""What a host stands for."""

import pytest

from schemas import hosts


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "::", "[0:0::0]", "[::ffff:0.0.0.0]", "0"])
def test_every_address_of_a_machine_is_none_to_call(host: str) -> None:
    """However it is written."""
    assert hosts.is_every_address(host)
    assert not hosts.can_be_called(host)


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "a.localhost", "127.0.0.1", "127.8.8.8", "[::1]", "::1"])
def test_this_machine_is_another_one_for_each_that_calls_it(host: str) -> None:
    """By name and by address."""
    assert hosts.is_loopback(host)
    assert not hosts.is_every_address(host)


@pytest.mark.parametrize(
    "host", ["gateway", "my_gateway", "a.example", "xn--bcher-kva.example", "10.0.0.7", "[2001:db8::1]", "3com.example"]
)
def test_names_and_addresses_of_one_machine_can_be_called(host: str) -> None:
    """Underscores stand in names of containers."""
    assert hosts.can_be_called(host)
    assert not hosts.is_loopback(host)
