"""Media from other hosts: no address but a public one is ever reached, and nothing endless is ever read."""

import asyncio
import gzip
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from hostile_hosts import HOST, PUBLIC, World, page

from emollm.errors import BadArgumentError
from emollm.serve.guard.address import is_public
from emollm.serve.guard.errors import Refused
from emollm.serve.guard.fetch import fetch, resolve
from emollm.serve.guard.hosts import Hosts
from emollm.serve.guard.limits import Limits

LISTED = Hosts.parse([HOST, "*.cdn.example.org", "odd.example.com:8443"], plain_http=True)
CLIP = page(b"clip", content_type="video/mp4")
NOT_PUBLIC = [
    "127.0.0.1", "127.255.0.9", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1",
    "168.63.129.16", "192.88.99.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:5db8:d822::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1",
    "3fff::1", "100::1", "2606:4700:4700::1111%eth0", "localhost", "127.1", "0x7f000001", "2130706433", "",
]  # fmt: skip


def get(world: World, url: str, hosts: Hosts = LISTED, most: int = 1 << 20, limits: Limits = Limits()):  # noqa: B008
    async def bounded():
        async with asyncio.timeout(60):
            return await fetch(url, limits, hosts, most, "Clip 1", world.network)

    return world.run(bounded)


def refused(world: World, url: str, **options) -> Refused:
    with pytest.raises(Refused) as caught:
        get(world, url, **options)
    assert 400 <= caught.value.status < 500
    said = str(caught.value)
    assert said.startswith("Clip 1 ")
    assert said.endswith(".")
    assert "\n" not in said
    assert not any(address in said for address in (PUBLIC, *NOT_PUBLIC[:20]))  # nor what a name resolves to
    return caught.value


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700:4700::1111", "2a00::1"])
def test_addresses_that_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [f"http://{HOST}/a", f"HTTP://{HOST.upper()}:80/a", "http://deep.in.cdn.example.org/a", f"http://{HOST}/a#x"],
)
def test_a_listed_host(url):
    world = World({"/a": CLIP}, {HOST: [[PUBLIC]], "deep.in.cdn.example.org": [[PUBLIC]]})
    assert get(world, url) == (b"clip", "video/mp4")
    assert world.reached == [PUBLIC]
    (request,) = world.requests
    assert "accept-encoding: identity" in request.lower()
    assert f"host: {world.asked[0]}\r\n" in request.lower()


def test_a_listed_port_and_a_query():
    world = World({"/a?b=c": page(b"x", content_type="application/octet-stream")}, {"odd.example.com": [[PUBLIC]]})
    assert get(world, "http://odd.example.com:8443/a?b=c") == (b"x", None)
    assert "Host: odd.example.com:8443\r\n" in world.requests[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a",
        "http://127.1/a",
        "http://2130706433/a",
        "http://0x7f000001/a",
        "http://0x7f.1/a",
        "http://0177.0.0.1/a",
        "http://1.2.3.0x4/a",
        "http://0/a",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/a",
        "http://[::ffff:127.0.0.1]/a",
        "http://[fe80::1%25eth0]/a",
        "http://[64:ff9b::7f00:1]/a",
        "http://localhost/a",
        "http://localhost./a",
        f"http://{HOST}./a",
        f"http://{HOST}:22/a",
        f"http://{HOST}:99999/a",
        f"http://{HOST}:-80/a",
        "http://odd.example.com/a",
        "http://other.example.com/a",
        "http://cdn.example.org/a",
        "http://evilcdn.example.org/a",
        f"http://x.{HOST}/a",
        f"http://{HOST}.evil.org/a",
        f"http://{HOST}@127.0.0.1/a",
        f"http://user:word@{HOST}/a",
        f"http://{HOST}\\@127.0.0.1/a",
        f"http://127.0.0.1\\@{HOST}/a",
        f"http://{HOST}/a b",
        f"http://{HOST}/a\r\nX: y",
        f"http://{HOST}\t/a",
        f" http://{HOST}/a",
        "http://①②⑦.0.0.1/a",
        "http://127。0。0。1/a",
        f"http://{HOST}/\N{SNOWMAN}",
        f"http://{HOST}/" + "a" * 3000,
        "http:///a",
        "http://",
        "http:a",
        "//media.example.com/a",
        "media.example.com/a",
        "",
        "file:///etc/passwd",
        f"file://{HOST}/etc/passwd",
        f"ftp://{HOST}/a",
        f"gopher://{HOST}/a",
        f"ws://{HOST}/a",
        "javascript:alert(1)",
        "concat:/etc/passwd",
        "blob:https://media.example.com/1",
    ],
)
def test_a_url_that_leads_elsewhere_is_not_even_resolved(url):
    world = World({"/a": CLIP}, {name: [[PUBLIC]] for name in (HOST, "other.example.com", "localhost")})
    refused(world, url)
    assert world.asked == world.reached == []


def test_nothing_is_fetched_by_default():
    world = World({"/a": CLIP})
    assert "fetches nothing" in str(refused(world, f"https://{HOST}/a", hosts=Hosts()))
    assert "https" in str(refused(world, f"http://{HOST}/a", hosts=Hosts.parse([HOST])))
    assert world.asked == []


@pytest.mark.parametrize(
    "name", ["", "*", "localhost", "127.0.0.1", "*.com", "[::1]", "a.com:x", "https://a.com", "0x7f.1"]
)
def test_what_cannot_be_listed(name):
    with pytest.raises(BadArgumentError, match="not the name of a host"):
        Hosts.parse([name])


@pytest.mark.parametrize("address", [a for a in NOT_PUBLIC if a])
@pytest.mark.parametrize("also", [[], [PUBLIC]])
def test_a_name_of_another_network(address, also):
    """One bad address is enough: which of them a client takes is a matter of chance."""
    world = World({"/a": CLIP}, {HOST: [[*also, address]]})
    assert "not on the public network" in str(refused(world, f"http://{HOST}/a"))
    assert world.reached == []


def test_a_name_that_resolves_differently_the_second_time():
    """It is resolved once, and the connection goes to the address that was checked."""
    world = World({"/a": CLIP}, {HOST: [[PUBLIC], ["127.0.0.1"]]})
    assert get(world, f"http://{HOST}/a") == (b"clip", "video/mp4")
    assert (world.asked, world.reached) == ([HOST], [PUBLIC])


def test_a_name_that_resolves_differently_after_a_redirect():
    world = World({"/a": page(status=302, location="/b"), "/b": CLIP}, {HOST: [[PUBLIC], ["127.0.0.1"]]})
    refused(world, f"http://{HOST}/a")
    assert (world.asked, world.reached) == ([HOST, HOST], [PUBLIC])


def test_unknown_and_empty_names():
    assert "not known" in str(refused(World(names={}), f"http://{HOST}/a"))
    assert "not on the public network" in str(refused(World(names={HOST: [[]]}), f"http://{HOST}/a"))


def test_this_machine_resolves_its_own_name_to_no_public_address():
    try:
        addresses = asyncio.run(resolve("localhost", 80))
    except socket.gaierror:
        pytest.skip("this machine does not know localhost")
    assert addresses
    assert not any(map(is_public, addresses))


def test_the_next_address_is_tried():
    class Half(World):
        async def connect_tcp(self, host, port, *args, **kwargs):
            stream = await super().connect_tcp(host, port)
            if host != PUBLIC:
                await stream.aclose()
                raise OSError("no route")
            return stream

    world = Half({"/a": CLIP}, {HOST: [["2606:4700:4700::1111", PUBLIC]]})
    assert get(world, f"http://{HOST}/a")[0] == b"clip"
    assert world.reached == ["2606:4700:4700::1111", PUBLIC]


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/b", "b", f"http://{HOST}/b", f"//{HOST}/b"])
def test_a_redirect_that_stays(status, location):
    world = World({"/a": page(status=status, location=location), "/b": CLIP})
    assert get(world, f"http://{HOST}/a")[0] == b"clip"
    assert world.reached == [PUBLIC, PUBLIC]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/b",
        "http://[::1]/b",
        "http://[::ffff:169.254.169.254]/b",
        "http://[broken/b",
        "http://other.example.com/b",
        "http://inside.cdn.example.org/b",
        "//127.0.0.1/b",
        "file:///etc/passwd",
        "data:video/mp4;base64,AAAA",
        "",
        f"http://{HOST}:22/b",
        f"http://user@{HOST}/b",
    ],
)
def test_a_redirect_that_leads_elsewhere(location):
    names = {HOST: [[PUBLIC]], "other.example.com": [[PUBLIC]], "inside.cdn.example.org": [["10.0.0.1"]]}
    world = World({"/a": page(status=302, location=location), "/b": CLIP}, names)
    refused(world, f"http://{HOST}/a")
    assert set(world.reached) == {PUBLIC}
    assert "other.example.com" not in world.asked


def test_redirects_without_end():
    world = World({"/a": page(status=302, location="/a")})
    assert "more than 2 times" in str(refused(world, f"http://{HOST}/a", limits=Limits(redirects=2)))
    assert len(world.reached) == 3


# What servers answer


async def drip(writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        await writer.drain()


async def headers_without_end(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: " + b"y" * 60_000 + b"\r\n")
        await writer.drain()


BOMB = gzip.compress(bytes(1 << 24))
ANSWERS = {
    "declared too large": (page(b"clip", length=1 << 30), 413, "limit"),
    "without end": (drip, 413, "limit"),
    "headers without end": (headers_without_end, 400, "properly"),
    "packed": (page(BOMB, content_encoding="gzip"), 400, "packs"),
    "packed twice": (page(BOMB, content_encoding="identity, br"), 400, "packs"),
    "packed on the way": (page(BOMB, transfer_encoding="gzip, chunked"), 400, "properly"),
    "a web page": (page(b"<html>", content_type="text/html; charset=utf-8"), 415, "type"),
    "a playlist": (page(b"#EXTM3U", content_type="application/vnd.apple.mpegurl"), 415, "type"),
    "not there": (page(status=404), 400, "status 404"),
    "a part": (page(b"clip", status=206), 400, "status 206"),
    "broken": (page(status=500), 400, "status 500"),
    "nowhere": (page(status=302), 400, "status 302"),
    "cut short": (page(b"clip", length=5), 400, "properly"),
    "another protocol": (b"220 mail.example.com ESMTP\r\n\r\n", 400, "properly"),
    "silent": (b"", 400, "properly"),
    "two lengths": (page(b"clip") .replace(b"\r\n\r\n", b"\r\ncontent-length: 9\r\n\r\n"), 400, "properly"),
    "no length": (page(b"clip", length=-1), 400, "properly"),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "status", "said"), ANSWERS.values(), ids=ANSWERS)
def test_answers_that_are_no_clip(answer, status, said):
    error = refused(World({"/a": answer}), f"http://{HOST}/a")
    assert error.status == status
    assert said in str(error)


def test_exactly_the_limit_passes():
    world = World({"/a": CLIP})
    assert get(world, f"http://{HOST}/a", most=4)[0] == b"clip"
    assert refused(world, f"http://{HOST}/a", most=3).status == 413


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    world = World({"/a": CLIP})
    assert get(world, f"http://{HOST}/a")[0] == b"clip"
    assert world.reached == [PUBLIC]


# TLS


def certified(folder, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a server that is called ``name``, and of a client that trusts its certificate."""
    pytest.importorskip("cryptography", reason="makes the certificates of this test")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime.now(UTC) - timedelta(days=1))
    builder = builder.not_valid_after(datetime.now(UTC) + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    file = folder / "server.pem"
    file.write_bytes(
        certificate
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=certificate.decode())


def test_https_to_the_checked_address_under_the_name(tmp_path):
    server, client = certified(tmp_path, HOST)
    world = World({"/a": CLIP}, tls=server, trust=client)
    assert get(world, f"https://{HOST}/a", hosts=Hosts.parse([HOST]))[0] == b"clip"
    assert world.reached == [PUBLIC]


def test_a_certificate_of_another_name(tmp_path):
    server, client = certified(tmp_path, "other.example.com")
    error = refused(World({"/a": CLIP}, tls=server, trust=client), f"https://{HOST}/a")
    assert "properly" in str(error)


def test_a_certificate_that_nobody_trusts(tmp_path):
    server, _ = certified(tmp_path, HOST)
    refused(World({"/a": CLIP}, tls=server, trust=ssl.create_default_context()), f"https://{HOST}/a")


def test_a_redirect_out_of_https(tmp_path):
    server, client = certified(tmp_path, HOST)
    world = World({"/a": page(status=302, location=f"http://{HOST}/b")}, tls=server, trust=client)
    assert "https" in str(refused(world, f"https://{HOST}/a", hosts=Hosts.parse([HOST])))
