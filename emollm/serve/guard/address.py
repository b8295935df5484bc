"""Which addresses on the network a server may be sent to: those of public hosts, and no others."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_GLOBAL_UNICAST = ip_network("2000::/3")  # all that IANA ever gave out; mapped, NAT64 and local forms lie outside
_REFUSED = [
    ip_network(block)
    for block in (
        "168.63.129.16/32",  # public by its number, but every Azure machine reaches its own host there
        "192.0.0.0/24",  # protocols of IETF; Python 3.11 takes some of it for public
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # Teredo and other protocols of IETF
        "2001:db8::/32",
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",  # documentation, later than Python 3.11 knows
    )
]


def is_public(text: str) -> bool:
    """Say whether ``text`` is the plain form of a public unicast address.

    False for loopback, private, link-local, shared, multicast, reserved and documentation ranges, for IPv6 forms that
    carry an IPv4 address (mapped, compatible, 6to4, NAT64, Teredo), for addresses with a zone, and for other text.
    """
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and (address.scope_id or address not in _GLOBAL_UNICAST):
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in block for block in _REFUSED)
