"""Which addresses may be reached when somebody else's name leads there."""

import pytest

from tasks.addresses import Allowed, refusal

NONE = Allowed()


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("8.8.8.8", None),
        ("2606:4700::1111", None),
        ("::ffff:8.8.8.8", None),
        ("64:ff9b::808:808", None),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("fd12:3456::1", "private"),
        ("fec0::1", "private"),
        ("100.64.0.1", "shared by a provider's customers"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff0e::1", "multicast"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("2001:db8::1", "reserved"),
        ("2001::1", "reserved"),
        ("2002:7f00:1::", "reserved"),
        ("::7f00:1", "reserved"),
        ("64:ff9b:1::1", "reserved"),
        ("4000::1", "reserved"),
        ("169.254.169.254", "a cloud's metadata service"),
        ("::ffff:169.254.169.254", "a cloud's metadata service"),
        ("64:ff9b::a9fe:a9fe", "a cloud's metadata service"),
        ("fd00:ec2::254", "a cloud's metadata service"),
        ("fd20:ce::254", "a cloud's metadata service"),
        ("2a00:1450::5efe:a00:1", "reserved"),
        ("2a00:1450::200:5efe:808:808", "reserved"),
        ("2a00:1450::5eff:a00:1", None),
        ("168.63.129.16", "a cloud's metadata service"),
        ("100.100.100.200", "a cloud's metadata service"),
    ],
)
def test_addresses(address: str, what: str | None) -> None:
    """Public ones may be reached, all others are called what they are, also inside an address of another kind."""
    assert refusal(address, "crm.example.com", NONE) == what


@pytest.mark.parametrize(
    ("allow", "address", "what"),
    [
        ("10.1.0.0/16", "10.1.2.3", None),
        ("10.1.0.0/16", "10.2.0.1", "private"),
        ("10.1.0.0/16", "::ffff:10.1.2.3", None),
        ("127.0.0.1", "127.0.0.1", None),
        ("fd00::/8", "fd12::1", None),
        ("crm.example.com", "10.1.2.3", None),
        ("CRM.example.com", "127.0.0.1", None),
        ("other.example.com", "10.1.2.3", "private"),
        ("example.com", "10.1.2.3", "private"),
        ("crm.example.com", "169.254.169.254", "a cloud's metadata service"),
        ("0.0.0.0/0", "169.254.169.254", "a cloud's metadata service"),
        ("169.254.169.254/32", "169.254.169.254", None),
    ],
)
def test_exceptions(allow: str, address: str, what: str | None) -> None:
    """Networks, addresses, and whole names; a metadata service only where it is named by itself."""
    assert refusal(address, "crm.example.com", Allowed.of([allow])) == what


@pytest.mark.parametrize(
    "text", ["10.1.0.0/33", "10.1.0.1/16", "http://x", "a b", "", "-x.example.com", "10.1.2.256", "*"]
)
def test_what_is_no_exception(text: str) -> None:
    """A slip must not look like a rule."""
    with pytest.raises(ValueError, match="is neither a network, nor an address, nor a host's name"):
        Allowed.of([text])
