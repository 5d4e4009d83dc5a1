"""Which addresses of the internet protocol may be reached from here, when somebody else's name decides where we send.

The networks are those of IANA's registries of special-purpose addresses:
https://www.iana.org/assignments/iana-ipv4-special-registry/ and …/iana-ipv6-special-registry/
"""

import dataclasses
import ipaddress
import re
from collections.abc import Iterable
from typing import Final, Self

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.(?!-)[a-z0-9-]{1,63})*")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


_METADATA: Final = "a cloud's metadata service"
#: What an address is → where such addresses are; the first that fits. An IPv6 address that is in none of these and not
#: in _PUBLIC_V6 is reserved.
_REFUSED: Final[dict[str, tuple[Network, ...]]] = {
    # AWS, Google, Azure and others; AWS in containers, and over IPv6; Google over IPv6; Azure's host; Alibaba; Oracle.
    _METADATA: _networks(
        *("169.254.169.254", "169.254.170.2", "fd00:ec2::/32", "fd20:ce::/32", "168.63.129.16", "100.100.100.200"),
        "192.0.0.192",
    ),
    "unspecified": _networks("0.0.0.0/8", "::/128"),
    "loopback": _networks("127.0.0.0/8", "::1/128"),
    "link-local": _networks("169.254.0.0/16", "fe80::/10"),
    "private": _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "shared by a provider's customers": _networks("100.64.0.0/10"),
    "multicast": _networks("224.0.0.0/4", "ff00::/8"),
    "reserved": _networks(
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    ),
}
#: The middle of an ISATAP address (RFC 5214), behind any prefix: a tunnel carries it to the IPv4 address that follows.
_ISATAP: Final = 0x0000_5EFE
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
#: IPv6 addresses whose last 32 bits are the IPv4 address that is meant: mapped, and by NAT64 (RFC 6052).
_CARRIES_V4: Final = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))


@dataclasses.dataclass(frozen=True)
class Allowed:
    """Exceptions: networks, and names that are trusted wherever they lead, but to a metadata service."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Out of networks ("10.1.0.0/16"), addresses and names. Raises ValueError for what is none of them."""
        networks: list[Network] = []
        hosts: list[str] = []
        for text in texts:
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError:
                if "/" in text or ":" in text or not _HOST.fullmatch(text.lower()) or text[-1].isdigit():
                    raise ValueError(f"{text} is neither a network, nor an address, nor a host's name") from None
                hosts.append(text.lower())
        return cls(tuple(networks), frozenset(hosts))


def refusal(text: str, host: str, allowed: Allowed) -> str | None:
    """Why an address, to which that host's name leads, must not be reached; None = it may.

    Raises ValueError when the text is no address.
    """
    address = _meant(ipaddress.ip_address(text))
    what = next((what for what, networks in _REFUSED.items() if any(address in each for each in networks)), None)
    # A metadata service only where it is named by itself: nobody means it with a wide network.
    if any(address in each and (what != _METADATA or each.num_addresses == 1) for each in allowed.networks):
        return None
    if what is None and address.version == 6 and (address not in _PUBLIC_V6 or _is_isatap(address)):  # noqa: PLR2004 - of IP
        what = "reserved"
    return None if host.lower() in allowed.hosts and what != _METADATA else what


def _is_isatap(address: Address) -> bool:
    return int(address) >> 32 & 0xFCFF_FFFF == _ISATAP  # its two bits that say how unique it is may be either


def _meant(address: Address) -> Address:
    if any(address in network for network in _CARRIES_V4):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    # Without its zone ("%eth0"), or it would be in no network.
    return ipaddress.IPv6Address(int(address)) if address.version == 6 else address  # noqa: PLR2004
