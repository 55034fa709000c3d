"""Rows B91 to B104 of the reliability study: what a person reads when router.toml is wrong, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.config.load import load_config
from router.config.model import (
    DimseDestination,
    DimseUpstream,
    Listen,
    Proxy,
    StowDestination,
    StowReach,
    WebUpstream,
)
from router.config.titles import with_ae_title
from router.errors import ConfigErrors

ARCHIVE = '[destinations.archive]\nkind = "dimse"\nae_title = "ARCHIVE"\nhost = "10.1.2.3"\n'
CLOUD = '[destinations.cloud]\nkind = "stow-rs"\nurl = "https://pacs.example/dicom-web"\n'
BOTH_WAYS = ARCHIVE + 'deliver = ["c-store", "stow-rs"]\n'
STOW_TABLE = '[destinations.archive.stow_rs]\nurl = "https://archive.example/dicom-web"\n'
STORE_TABLE = '[destinations.cloud.c_store]\nhost = "10.1.2.5"\n'
PACS = 'upstream = { kind = "dimse", ae_title = "PACS", host = "10.1.2.6", port = 104 }\n'
FAR = 'upstream = { kind = "dicomweb", url = "https://far.example/dicom-web" }\n'
AE_RULE = "1 to 16 ASCII characters, no backslash, no control character, no space at either end (PS3.5 §6.2)"
TIME_RULE = 'seconds as a number, or a text such as "500ms", "30s", "5m", "2h", "14d"'
SIZE_RULE = 'bytes as a whole number, or a text such as "512KiB", "64MiB", "16GiB", "2TiB" (or kB, MB, GB, TB)'
HOST_RULE = 'a host name or an IP address, such as "pacs.example" or "10.1.2.3"'
URL_RULE = 'an http or https URL such as "https://pacs.example/dicom-web"'
LISTEN_RULE = '"address:port" such as "127.0.0.1:11112", "0.0.0.0:104" or "[::]:104"'
NETWORK_RULE = 'an IP address or a network such as "10.1.2.3", "10.1.0.0/16" or "fd00::/8"'


def complaints(folder: Path, content: str | bytes) -> list[str]:
    """What is said about a file, without the name of its folder."""
    file = folder / "router.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(0o640)
    try:
        load_config(file)
    except ConfigErrors as errors:
        return [str(error).replace(f"{folder}/", "") for error in errors.errors]
    return []


ROWS = {
    "b91 unknown table": (
        "\n[destnations.archive]\nkind = 1\n",
        ["router.toml:2: [destnations]: is not known here; did you mean destinations?"],
    ),
    "b91 unknown key": (
        "[dicom]\nae_titel = 'A'\n",
        ["router.toml:2: [dicom] ae_titel: is not known here; did you mean ae_title?"],
    ),
    "b91 unknown key like nothing": (
        "[log]\ncolour = 'red'\n",
        ["router.toml:2: [log] colour: is not known here; allowed: format, level"],
    ),
    "b91 key of another table": (
        "ae_title = 'A'\n",
        ["router.toml:1: ae_title: is not known here; it belongs into [dicom]"],
    ),
    "b91 unknown key of a destination": (
        ARCHIVE + "prot = 104\n",
        ["router.toml:5: [destinations.archive] prot: is not known here; did you mean port?"],
    ),
    "b91 unknown kind": (
        '[destinations.a]\nkind = "stow"\n',
        [
            'router.toml:2: [destinations.a] kind: "stow" is not known; allowed: "dimse" or "stow-rs" or "send-rs"; '
            'did you mean "stow-rs"?'
        ],
    ),
    "b91 no kind": (
        "[destinations.a]\nport = 1\n",
        ['router.toml:1: [destinations.a]: kind is missing; allowed: "dimse" or "stow-rs" or "send-rs"'],
    ),
    "b91 table where a value belongs": (
        "[dicom.ae_title]\nx = 1\n",
        ["router.toml:1: [dicom] ae_title: a table is not a text"],
    ),
    "b91 value where a table belongs": (
        "http = 8080\n",
        ["router.toml:1: http: is 8080, not a table; it begins with a line [http]"],
    ),
    "b91 destination as a text": (
        '[destinations]\narchive = "10.1.2.3"\n',
        [
            'router.toml:2: [destinations] archive: is "10.1.2.3", not a table; '
            "write a table [destinations.NAME] for each"
        ],
    ),
    "b92 port out of range": (
        ARCHIVE + "port = 70000\n",
        ["router.toml:5: [destinations.archive] port: 70000 is out of range; allowed: 1 to 65535"],
    ),
    "b92 port as a text": (
        ARCHIVE + 'port = "104"\n',
        [
            'router.toml:5: [destinations.archive] port: "104" is not a whole number; allowed: 1 to 65535; '
            "write it without quotes: port = 104"
        ],
    ),
    "b92 port true": (
        ARCHIVE + "port = true\n",
        ["router.toml:5: [destinations.archive] port: true is not a whole number; allowed: 1 to 65535"],
    ),
    "b92 port with a fraction": (
        ARCHIVE + "port = 104.5\n",
        ["router.toml:5: [destinations.archive] port: 104.5 is not a whole number; allowed: 1 to 65535"],
    ),
    "b92 number where a text belongs": (
        "[dicom]\nae_title = 7\n",
        ['router.toml:2: [dicom] ae_title: 7 is not a text; write it in quotes: ae_title = "7"'],
    ),
    "b92 yes for true": (
        '[http]\ninsecure_http = "yes"\n',
        ['router.toml:2: [http] insecure_http: "yes" is not a yes or no; allowed: true or false, without quotes'],
    ),
    "b92 listen without address": (
        '[dicom]\nlisten = ":104"\n',
        [
            f'router.toml:2: [dicom] listen: ":104" has no address; allowed: {LISTEN_RULE}; '
            'for all addresses write "0.0.0.0:104"'
        ],
    ),
    "b92 listen without port": (
        '[dicom]\nlisten = "10.1.2.3"\n',
        [f'router.toml:2: [dicom] listen: "10.1.2.3" has no port at its end; allowed: {LISTEN_RULE}'],
    ),
    "b92 listen on a port that does not exist": (
        '[dicom]\nlisten = "10.1.2.3:70000"\n',
        [
            "router.toml:2: [dicom] listen: port 70000 does not exist; "
            "allowed: a port from 1 to 65535, or 0 for any free one"
        ],
    ),
    "b92 listen on IPv6 without brackets": (
        '[dicom]\nlisten = "::1:104"\n',
        [f'router.toml:2: [dicom] listen: "::1:104" has an IPv6 address without brackets; allowed: {LISTEN_RULE}'],
    ),
    "b93 AE title too long": (
        '[dicom]\nae_title = "ABCDEFGHIJKLMNOPQ"\n',
        [f'router.toml:2: [dicom] ae_title: "ABCDEFGHIJKLMNOPQ" has 17 characters; allowed: {AE_RULE}'],
    ),
    "b93 AE title with a backslash": (
        "[dicom]\nae_title = 'A\\B'\n",
        [f'router.toml:2: [dicom] ae_title: "A\\\\B" holds a backslash; allowed: {AE_RULE}'],
    ),
    "b93 AE title with a control character": (
        '[dicom]\nae_title = "A\\u0007"\n',
        [
            'router.toml:2: [dicom] ae_title: "A\\u0007" holds a character that DICOM does not allow; '
            f"allowed: {AE_RULE}"
        ],
    ),
    "b93 AE title with an umlaut": (
        '[dicom]\nae_title = "RÖNTGEN"\n',
        [f'router.toml:2: [dicom] ae_title: "RÖNTGEN" holds a character that DICOM does not allow; allowed: {AE_RULE}'],
    ),
    "b93 empty AE title": (
        '[dicom]\nae_title = ""\n',
        [f"router.toml:2: [dicom] ae_title: is empty; allowed: {AE_RULE}"],
    ),
    "b93 AE title with a space at its end": (
        '[peers.ct]\nae_title = "CT "\naddress = "10.0.0.1"\n',
        [
            'router.toml:2: [peers.ct] ae_title: "CT " has a space at an end, which does not count in an AE title; '
            f"allowed: {AE_RULE}"
        ],
    ),
    "b94 two destinations of one name": (
        ARCHIVE + "\n" + ARCHIVE,
        ["router.toml:6: [destinations.archive]: stands on line 1 already; give each name once"],
    ),
    "b94 everything that stands twice": (
        "[dicom]\nlisten = '1'\nlisten = '2'\n[http]\n[dicom]\n",
        [
            "router.toml:3: [dicom] listen: stands on line 2 already; give each name once",
            "router.toml:5: [dicom]: stands on line 1 already; give each name once",
        ],
    ),
    "b94 two peers that are the same": (
        '[peers.a]\nae_title = "CT"\naddress = "10.1.2.3"\n[peers.b]\nae_title = "CT"\naddress = "10.1.2.3/32"\n',
        ["router.toml:4: [peers.b]: is the same AE title and address as [peers.a]"],
    ),
    "b100 negative duration": (
        '[dicom]\nartim_s = "-5s"\n',
        [
            'router.toml:2: [dicom] artim_s: "-5s" is out of range; '
            'allowed: 0.1 s to 1 d, in seconds, or as a text such as "30s" or "5m"'
        ],
    ),
    "b100 unknown unit of time": (
        '[dicom]\nartim_s = "5 parsecs"\n',
        [f'router.toml:2: [dicom] artim_s: "5 parsecs" has the unknown unit "parsecs"; allowed: {TIME_RULE}'],
    ),
    "b100 unknown unit of size": (
        '[dicom]\nmax_pdu_bytes = "10XB"\n',
        [f'router.toml:2: [dicom] max_pdu_bytes: "10XB" has the unknown unit "XB"; allowed: {SIZE_RULE}'],
    ),
    "b100 duration without a unit": (
        '[dicom]\nartim_s = "30"\n',
        [f'router.toml:2: [dicom] artim_s: "30" has no unit; allowed: {TIME_RULE}'],
    ),
    "b100 duration that is no number": (
        "[dicom]\nartim_s = nan\nidle_s = inf\n",
        [
            f"router.toml:{line}: [dicom] {key}: {value} is not a number; "
            'allowed: 0.1 s to 1 d, in seconds, or as a text such as "30s" or "5m"'
            for line, key, value in ((2, "artim_s", "nan"), (3, "idle_s", "inf"))
        ],
    ),
    "b100 half a byte": (
        '[dicom]\nmax_pdu_bytes = "4096.5B"\n',
        [f'router.toml:2: [dicom] max_pdu_bytes: "4096.5B" is not a whole number of bytes; allowed: {SIZE_RULE}'],
    ),
    "b100 times that contradict each other": (
        "[sending]\nbackoff_cap_s = 5\nlifetime_s = 10\n",
        [
            "router.toml:2: [sending] backoff_cap_s: is shorter than backoff_first_s (30 s)",
            "router.toml:3: [sending] lifetime_s: is over before the first retry (backoff_first_s)",
        ],
    ),
    "b101 utf-16": ("[dicom]\n".encode("utf-16"), ["router.toml: is UTF-16 text; save it as UTF-8"]),
    "b101 nul": (b"[dicom]\n\n\0\n", ["router.toml:3: holds a NUL byte: it is not a text file"]),
    "b101 latin-1": (
        "[dicom]\n# R\xf6ntgen\n".encode("latin-1"),
        ["router.toml:2: is not UTF-8 text; save it as UTF-8"],
    ),
    "b101 two megabytes": (b"# " * 1024**2, ["router.toml: is larger than 1 MiB, so it cannot be a configuration"]),
    "b101 deep nesting": ("a = " + "[" * 100_000, ["router.toml: lists or tables are nested too deeply to be read"]),
    "b101 a number of 5,000 digits": (
        "[dicom]\nartim_s = " + "1" * 5000,
        ["router.toml:2: not TOML: a number has too many digits"],
    ),
    "b101 text without quotes": (
        ARCHIVE.replace('"10.1.2.3"', "10.1.2.3"),
        [
            "router.toml:4: not TOML: expected newline or end of document after a statement; "
            'text stands in quotes: host = "…"'
        ],
    ),
    "b101 quotes of a word processor": (
        "[dicom]\nae_title = “A”\n",
        ["router.toml:2: not TOML: invalid value; use the plain quotes \" and '"],
    ),
    "b101 path of Windows": (
        '[state]\npath = "C:\\state"\n',
        [
            "router.toml:2: not TOML: unescaped '\\' in a string; "
            "write a backslash twice, or put the text in single quotes"
        ],
    ),
    "b101 True": (
        "[http]\ninsecure_http = True\n",
        ["router.toml:2: not TOML: invalid value; write true or false, in lower case"],
    ),
    "b104 plain http for all": (
        '[http]\nlisten = "0.0.0.0:8080"\n',
        [
            "router.toml:2: [http] listen: 0.0.0.0 can be reached from other machines, and HTTP is not encrypted; "
            "listen on 127.0.0.1 behind a reverse proxy with TLS, or set insecure_http = true"
        ],
    ),
    "host with a scheme": (
        ARCHIVE.replace("10.1.2.3", "http://10.1.2.3"),
        [
            'router.toml:4: [destinations.archive] host: "http://10.1.2.3" is neither a host name nor an IP address; '
            f"allowed: {HOST_RULE}; write the host alone, without http://"
        ],
    ),
    "host with a port": (
        ARCHIVE.replace("10.1.2.3", "10.1.2.3:104"),
        [
            'router.toml:4: [destinations.archive] host: "10.1.2.3:104" is neither a host name nor an IP address; '
            f"allowed: {HOST_RULE}; the port has a key of its own: port = …"
        ],
    ),
    "host that is no address": (
        ARCHIVE.replace("10.1.2.3", "10.1.2.300"),
        [
            'router.toml:4: [destinations.archive] host: "10.1.2.300" is neither a host name nor an IP address; '
            f"allowed: {HOST_RULE}"
        ],
    ),
    "empty host": (
        ARCHIVE.replace("10.1.2.3", ""),
        [f"router.toml:4: [destinations.archive] host: is empty; allowed: {HOST_RULE}"],
    ),
    "missing keys": (
        '[destinations.archive]\nkind = "dimse"\n[peers.ct]\n',
        [
            "router.toml:1: [destinations.archive]: host is missing",
            "router.toml:1: [destinations.archive]: ae_title is missing",
            "router.toml:3: [peers.ct]: ae_title is missing",
            "router.toml:3: [peers.ct]: address is missing",
        ],
    ),
    "name with a space": (
        '[peers."ct 1"]\nae_title = "CT"\naddress = "10.0.0.1"\n',
        [
            'router.toml:1: [peers."ct 1"]: "ct 1" is not a usable name; '
            "allowed: 1 to 64 letters, digits, hyphens and underscores"
        ],
    ),
    "url that is no web address": (
        CLOUD.replace("https", "ftp"),
        [
            'router.toml:3: [destinations.cloud] url: "ftp://pacs.example/dicom-web" is not an http or https URL; '
            f"allowed: {URL_RULE}"
        ],
    ),
    "url with a password, which is not repeated": (
        CLOUD.replace("pacs.", "me:geheim@pacs."),
        [
            f"router.toml:3: [destinations.cloud] url: holds a user name or password; allowed: {URL_RULE}; "
            "secrets come from a file: bearer_token_file"
        ],
    ),
    "url with a query": (
        CLOUD.replace("dicom-web", "dicom-web?x=1"),
        [
            'router.toml:3: [destinations.cloud] url: "https://pacs.example/dicom-web?x=1" has a query or a fragment; '
            f"allowed: {URL_RULE}; write the base of the service alone"
        ],
    ),
    "header that the router sets itself": (
        CLOUD + 'headers = { Host = "x", X-Odd = "a\\nb" }\n',
        [
            "router.toml:4: [destinations.cloud] headers.Host: is set by the router itself; "
            "allowed: other headers, such as Authorization or X-Api-Key",
            "router.toml:4: [destinations.cloud] headers.X-Odd: has a value with line breaks, control or non-ASCII "
            "characters, or spaces at its ends",
        ],
    ),
    "network with bits beyond its mask": (
        '[peers.ct]\nae_title = "CT"\naddress = "10.1.2.3/16"\n',
        [
            'router.toml:3: [peers.ct] address: "10.1.2.3/16" has bits beyond its mask; '
            f'allowed: {NETWORK_RULE}; write "10.1.0.0/16" or "10.1.2.3"'
        ],
    ),
    "path under the web services without a slash": (
        '[http]\nbase_path = "dicom-web"\n',
        [
            'router.toml:2: [http] base_path: "dicom-web" is not a path; allowed: a path such as "/dicom-web", or "/"; '
            'write "/dicom-web"'
        ],
    ),
    "home folder": (
        '[state]\npath = "~/state"\n',
        [
            'router.toml:2: [state] path: "~/state" begins with ~, which means another folder for each user; '
            "write the whole path"
        ],
    ),
    "destination that is this router": (
        ARCHIVE.replace("10.1.2.3", "localhost") + "port = 11112\n",
        ["router.toml:1: [destinations.archive]: is this router itself: what it sends would come back for ever"],
    ),
    "both fronts on one port": (
        '[http]\nlisten = "127.0.0.1:11112"\n',
        ["router.toml:2: [http] listen: port 11112 is taken by [dicom] listen"],
    ),
    "aliases that are no list": (
        CLOUD + 'aliases = "https://pacs.internal"\n',
        [
            'router.toml:4: [destinations.cloud] aliases: "https://pacs.internal" is not a list; '
            'write it in brackets: aliases = ["https://pacs.internal"]'
        ],
    ),
    "alias that is no URL": (
        ARCHIVE + 'aliases = ["https://archive.example", "ARCHIVE"]\n',
        [f'router.toml:5: [destinations.archive] aliases: "ARCHIVE" is not an http or https URL; allowed: {URL_RULE}'],
    ),
    "alias that is the URL of another": (
        CLOUD + ARCHIVE + 'aliases = ["https://PACS.example/dicom-web"]\n',
        [
            "router.toml:8: [destinations.archive] aliases: https://PACS.example/dicom-web is a URL of "
            "[destinations.cloud]"
        ],
    ),
    "nothing to deliver by": (
        ARCHIVE + "deliver = []\n",
        ['router.toml:5: [destinations.archive] deliver: is empty; write deliver = ["c-store"]'],
    ),
    "a mechanism twice": (
        ARCHIVE + 'deliver = ["c-store", "c-store"]\n',
        ["router.toml:5: [destinations.archive] deliver: names a mechanism twice; an instance is tried once by each"],
    ),
    "a mechanism that there is not": (
        ARCHIVE + 'deliver = ["c-store", "stow"]\n',
        ['router.toml:5: [destinations.archive] deliver: "stow" is not known; allowed: "c-store" or "stow-rs"'],
    ),
    "a mechanism without its table": (
        ARCHIVE + 'deliver = ["c-store", "stow-rs"]\n' + CLOUD + 'deliver = ["c-store"]\n',
        [
            'router.toml:5: [destinations.archive] deliver: names "stow-rs", and there is no table '
            "[destinations.archive.stow_rs]",
            'router.toml:9: [destinations.cloud] deliver: names "c-store", and there is no table '
            "[destinations.cloud.c_store]",
        ],
    ),
    "a table of a mechanism that is not used": (
        ARCHIVE + STOW_TABLE + CLOUD + STORE_TABLE,
        [
            'router.toml:5: [destinations.archive.stow_rs]: has no use, because deliver does not name "stow-rs"; '
            'write deliver = ["c-store", "stow-rs"]',
            'router.toml:10: [destinations.cloud.c_store]: has no use, because deliver does not name "c-store"; '
            'write deliver = ["stow-rs", "c-store"]',
        ],
    ),
    "a table that holds another's keys": (
        BOTH_WAYS + STOW_TABLE + 'host = "10.1.2.3"\nanswers_s = 5\n',
        [
            "router.toml:8: [destinations.archive.stow_rs] host: is not known here; "
            "allowed: answer_s, batch_bytes, batch_instances, bearer_token_file, ca_file, connect_s, connections, "
            "empty_200, headers, url",
            "router.toml:9: [destinations.archive.stow_rs] answers_s: is not known here; did you mean answer_s?",
        ],
    ),
    "a key of the table in the destination itself": (
        ARCHIVE + 'empty_200 = "accept"\n',
        [
            "router.toml:5: [destinations.archive] empty_200: is not known here; "
            "it belongs into [destinations.archive.stow_rs]"
        ],
    ),
    "a table as a text": (
        BOTH_WAYS + 'stow_rs = "https://archive.example"\n',
        [
            'router.toml:5: [destinations.archive] deliver: names "stow-rs", and there is no table '
            "[destinations.archive.stow_rs]",
            'router.toml:6: [destinations.archive] stow_rs: is "https://archive.example", not a table; '
            "it begins with a line [destinations.archive.stow_rs]",
        ],
    ),
    "a second way back to this router": (
        BOTH_WAYS
        + STOW_TABLE.replace("https://archive.example", "http://127.0.0.1:8080")
        + CLOUD
        + 'deliver = ["stow-rs", "c-store"]\n'
        + STORE_TABLE.replace("10.1.2.5", "localhost")
        + "port = 11112\n",
        [
            f"router.toml:{line}: [destinations.{name}]: is this router itself: what it sends would come back for ever"
            for line, name in ((6, "archive.stow_rs"), (12, "cloud.c_store"))
        ],
    ),
    "an alias that is the second way of another": (
        BOTH_WAYS + STOW_TABLE + CLOUD + 'aliases = ["https://archive.example/dicom-web"]\n',
        [
            "router.toml:11: [destinations.cloud] aliases: https://archive.example/dicom-web is a URL of "
            "[destinations.archive]"
        ],
    ),
    "confirmation by what cannot confirm": (
        '[destinations.far]\nkind = "send-rs"\nurl = "https://vna.example"\ntarget = "https://far.example"\n'
        'confirm = "commitment"\n',
        [
            "router.toml:5: [destinations.far] confirm: is not known here; "
            "allowed: ae_title, aliases, answer_s, batch_instances, bearer_token_file, ca_file, connect_s, "
            "connections, follow_s, headers, kind, send_rs, target, url"
        ],
    ),
    "confirmation of another kind": (
        ARCHIVE + 'confirm = "commit"\n',
        ['router.toml:5: [destinations.archive] confirm: "commit" is not known; allowed: "answer" or "commitment"'],
    ),
    "proxy without a name": (
        "[proxies.pacs]\n" + PACS + "[proxies.far]\n" + FAR,
        [
            'router.toml:1: [proxies.pacs]: base_path is missing; write base_path = "/pacs"',
            'router.toml:3: [proxies.far]: ae_title is missing; write ae_title = "FAR"',
        ],
    ),
    "proxy with the name of the other kind": (
        f'[proxies.pacs]\nbase_path = "/pacs"\nae_title = "PACS"\n{PACS}'
        f'[proxies.far]\nbase_path = "/far"\nae_title = "FAR"\n{FAR}',
        [
            "router.toml:3: [proxies.pacs] ae_title: has no use with a DIMSE upstream; it is meant by its base_path",
            "router.toml:6: [proxies.far] base_path: has no use with a DICOMweb upstream; it is meant by its ae_title",
        ],
    ),
    "proxy by a name that is taken": (
        f'[proxies.pacs]\nbase_path = "/dicom-web"\n{PACS}'
        f'[proxies.a]\nbase_path = "/a"\n{PACS}[proxies.b]\nbase_path = "/a"\n{PACS}'
        f'[proxies.far]\nae_title = "SENDRS"\n{FAR}'
        f'[proxies.c]\nae_title = "C"\n{FAR}[proxies.d]\nae_title = "C"\n{FAR}',
        [
            "router.toml:2: [proxies.pacs] base_path: /dicom-web is that of [http]; each needs a path of its own",
            "router.toml:8: [proxies.b] base_path: /a is that of [proxies.a]; each needs a path of its own",
            "router.toml:11: [proxies.far] ae_title: SENDRS is that of [dicom]; each needs a title of its own",
            "router.toml:17: [proxies.d] ae_title: C is that of [proxies.c]; each needs a title of its own",
        ],
    ),
    "proxy without an upstream, or an unknown one": (
        '[proxies.pacs]\nbase_path = "/pacs"\n[proxies.far]\nae_title = "FAR"\nupstream = { kind = "dicom" }\n'
        '[proxies.odd]\nbase_path = "/odd"\nupstream = { host = "h" }\n',
        [
            "router.toml:1: [proxies.pacs]: upstream is missing",
            'router.toml:5: [proxies.far.upstream] kind: "dicom" is not known; allowed: "dimse" or "dicomweb"; '
            'did you mean "dicomweb"?',
            'router.toml:8: [proxies.odd.upstream]: kind is missing; allowed: "dimse" or "dicomweb"',
        ],
    ),
    "proxy of this router": (
        f'[proxies.pacs]\nbase_path = "/pacs"\n{PACS.replace("10.1.2.6", "127.0.0.1").replace("104", "11112")}'
        '[proxies.far]\nae_title = "FAR"\n'
        'upstream = { kind = "dicomweb", url = "http://localhost:8080/dicom-web" }\n',
        [
            f"router.toml:{line}: [proxies.{name}] upstream: is this router itself: it would ask itself for ever"
            for line, name in ((3, "pacs"), (6, "far"))
        ],
    ),
    "waits that exclude each other": (
        "[http]\nsync_budget_s = 20\nmax_sync_s = 10\n",
        ["router.toml:3: [http] max_sync_s: is shorter than sync_budget_s (20 s)"],
    ),
    "more instances than a counter can say": (
        "[http]\nmax_send_instances = 65536\n",
        ["router.toml:2: [http] max_send_instances: 65536 is out of range; allowed: 1 to 65535"],
    ),
    "ca_file without https": (
        CLOUD.replace("https", "http") + 'ca_file = "router.toml"\n',
        ["router.toml:4: [destinations.cloud] ca_file: has no use, because the url is http and not https"],
    ),
}


@pytest.mark.parametrize(("content", "said"), ROWS.values(), ids=ROWS.keys())
def test_what_is_wrong_is_said_word_for_word(tmp_path: Path, content: str | bytes, said: list[str]) -> None:
    assert complaints(tmp_path, content) == said


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    content = "[dicom]\nmax_associations = 0\n[http]\nlisten = ''\n" + ARCHIVE + "port = 0\n[peers.ct]\naddress = 'x'\n"
    lines = [int(text.split(":")[1]) for text in complaints(tmp_path, content)]
    assert lines == [2, 4, 9, 10, 11]


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "[::1]:8080", "localhost:8080", "127.1.2.3:0"])
def test_b104_plain_http_on_this_machine_alone_is_fine(tmp_path: Path, address: str) -> None:
    assert complaints(tmp_path, f'[http]\nlisten = "{address}"\n') == []


def test_b104_plain_http_for_others_is_taken_when_it_is_asked_for(tmp_path: Path) -> None:
    assert complaints(tmp_path, '[http]\nlisten = "0.0.0.0:8080"\ninsecure_http = true\n') == []


@pytest.mark.parametrize("title", ["archive", "Pacs_1", "A" * 16, "AE.1-2 x"])
def test_b93_ae_titles_of_the_field_are_taken(tmp_path: Path, title: str) -> None:
    assert complaints(tmp_path, f'[dicom]\nae_title = "{title}"\n') == []


def test_b101_byte_order_mark_windows_line_ends_and_tabs_are_taken(tmp_path: Path) -> None:
    assert complaints(tmp_path, b"\xef\xbb\xbf[dicom]\r\n\tae_title\t=\t'A'\r\n") == []


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30", 30.0),
        ("0.5", 0.5),
        ('"500ms"', 0.5),
        ('"30s"', 30.0),
        ('"5m"', 300.0),
        ('"2h"', 7200.0),
        ('"1 d"', 86_400.0),
    ],
)
def test_b100_times_are_read_in_every_unit(tmp_path: Path, written: str, seconds: float) -> None:
    file = tmp_path / "router.toml"
    file.write_text(f"[dicom]\nartim_s = {written}\n")
    assert load_config(file).dicom.artim_s == seconds


@pytest.mark.parametrize(
    ("written", "count"),
    [("8192", 8192), ('"8KiB"', 8192), ('"8 kB"', 8000), ('"0.5MiB"', 512 * 1024), ('"524288B"', 512 * 1024)],
)
def test_b100_sizes_are_read_in_every_unit(tmp_path: Path, written: str, count: int) -> None:
    file = tmp_path / "router.toml"
    file.write_text(f"[dicom]\nmax_pdu_bytes = {written}\n")
    assert load_config(file).dicom.max_pdu_bytes == count


def test_a_missing_configuration_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"router\.toml: there is no such file$"):
        load_config(tmp_path / "router.toml")


def test_b102_a_link_to_a_device_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.symlink_to("/dev/zero")
    with pytest.raises(ConfigErrors, match=r"router\.toml: is a device or pipe, not a file$"):
        load_config(file)


def test_b102_a_folder_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"is a folder, not a file$"):
        load_config(tmp_path)


def test_b102_a_secret_header_in_a_file_that_all_can_read_is_refused_with_the_chmod(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text(CLOUD + 'headers = { Authorization = "Basic geheim" }\n')
    file.chmod(0o644)
    with pytest.raises(ConfigErrors) as caught:
        load_config(file)
    assert str(caught.value) == (
        f"{file}:4: [destinations.cloud] headers.Authorization: is a secret in a file that everybody can read; "
        f"chmod o= {file}"
    )
    file.chmod(0o640)
    assert isinstance(load_config(file).destinations["cloud"], StowDestination)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"abc.def\n", 0o644, "FILE can be read by everybody on this machine; chmod o= FILE"),
        (b"", 0o600, "FILE is empty; it holds the token and nothing else"),
        (b"two words", 0o600, "FILE holds more than one word; it holds the token and nothing else"),
        ("tökken".encode(), 0o600, "FILE holds characters that cannot be part of a token"),
        (b"x" * 70_000, 0o600, "FILE is larger than 64 KiB"),
        (None, 0, "FILE does not exist"),
    ],
)
def test_b102_a_token_file_that_is_not_one_is_refused(
    tmp_path: Path, content: bytes | None, mode: int, said: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
        token.chmod(mode)
    [text] = complaints(tmp_path, CLOUD + 'bearer_token_file = "token"\n')
    where = "router.toml:4: [destinations.cloud] bearer_token_file: "
    assert text == where + said.replace("FILE", "token")


def test_b102_a_token_file_that_is_a_device_is_not_read(tmp_path: Path) -> None:
    [text] = complaints(tmp_path, CLOUD + 'bearer_token_file = "/dev/zero"\n')
    assert text == "router.toml:4: [destinations.cloud] bearer_token_file: /dev/zero is not a file"


def test_b102_a_token_and_an_authorization_header_exclude_each_other(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc")
    token.chmod(0o600)
    content = CLOUD + 'bearer_token_file = "token"\nheaders = { authorization = "x" }\n'
    [text] = complaints(tmp_path, content)
    assert text == "router.toml:4: [destinations.cloud] bearer_token_file: and headers.Authorization exclude each other"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "ca.pem does not exist"),
        (b"hello", "ca.pem is not a file of PEM certificates"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ca.pem is not a file of PEM certificates"),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "ca.pem holds a private key, not the certificate of an authority",
        ),
    ],
)
def test_b103_a_certificate_file_that_is_not_one_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    [text] = complaints(tmp_path, CLOUD + 'ca_file = "ca.pem"\n')
    assert text == f"router.toml:4: [destinations.cloud] ca_file: {said}"


def test_b103_the_certificates_of_this_machine_are_taken(tmp_path: Path) -> None:
    import certifi

    assert complaints(tmp_path, CLOUD + f'ca_file = "{certifi.where()}"\n') == []


def test_a_whole_configuration_becomes_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text(
        '[dicom]\nlisten = "[::]:104"\n[http]\nbase_path = "/"\n[state]\npath = "state"\n'
        + ARCHIVE
        + CLOUD.replace("dicom-web", "dicom-web/")
        + 'headers = { X-Site = "north" }\n[peers.ct]\nae_title = "CT"\naddress = "10.1.0.0/16"\n'
    )
    config = load_config(file)
    assert config.file == file
    assert config.dicom.listen == Listen("::", 104)
    assert config.http.base_path == ""
    assert config.state.path == tmp_path / "state"
    assert config.rules.path == tmp_path / "rules"
    assert config.destinations["archive"] == DimseDestination(name="archive", ae_title="ARCHIVE", host="10.1.2.3")
    assert config.destinations["cloud"] == StowDestination(
        name="cloud", url="https://pacs.example/dicom-web", headers={"X-Site": "north"}
    )
    assert config.peers["ct"].address == "10.1.0.0/16"


def test_paths_are_taken_from_the_folder_of_the_file_and_not_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "router.toml").write_text('[state]\npath = "/srv/state"\n')
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("router.toml"))
    assert config.rules.path == tmp_path / "rules"
    assert config.state.path == Path("/srv/state")
    assert config.file.is_absolute()


def test_a_server_that_is_asked_to_send_is_checked_like_one_that_is_sent_to(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text(
        '[http]\nlisten = "127.0.0.1:8080"\n'
        '[destinations.far]\nkind = "send-rs"\nurl = "http://127.0.0.1:8080/dicom-web"\ntarget = "/dicom-web"\n'
        'headers = { Authorization = "secret" }\nbearer_token_file = "missing"\n'
        '[destinations.back]\nkind = "send-rs"\nurl = "http://127.0.0.1:8080/dicom-web"\ntarget = "https://far.example"\n'
        'headers = { Authorization = "secret" }\nbearer_token_file = "missing"\n'
    )
    file.chmod(0o644)
    with pytest.raises(ConfigErrors) as errors:
        load_config(file)
    text = str(errors.value)
    assert '[destinations.far] target: "/dicom-web" is not an http or https URL' in text
    assert "[destinations.back]: is this router itself" in text
    assert "headers.Authorization: is a secret in a file that everybody can read" in text
    assert "bearer_token_file: and headers.Authorization exclude each other" in text


@pytest.mark.parametrize(
    ("text", "header"),
    [
        (BOTH_WAYS + STOW_TABLE, "destinations.archive.stow_rs"),
        (f'[proxies.far]\nae_title = "FAR"\n{FAR}', ""),
    ],
)
def test_b102_secrets_of_a_second_way_or_an_upstream_are_guarded_too(tmp_path: Path, text: str, header: str) -> None:
    token = tmp_path / "a.token"
    token.write_text("secret")
    token.chmod(0o644)
    if header:
        text += 'bearer_token_file = "a.token"\nheaders = { X-Api-Key = "geheim" }\n'
        place = f"[{header}] "
    else:
        text = text.replace(" }", ', bearer_token_file = "a.token", headers = { X-Api-Key = "geheim" } }')
        place = "[proxies.far] upstream."
    file = tmp_path / "router.toml"
    file.write_text(text)
    file.chmod(0o644)
    with pytest.raises(ConfigErrors) as raised:
        load_config(file)
    said = sorted(f"{error.where}: {error.problem}" for error in raised.value.errors)
    assert said == [
        f"{place}bearer_token_file: {token} can be read by everybody on this machine",
        f"{place}headers.X-Api-Key: is a secret in a file that everybody can read",
    ]


def test_what_is_written_about_second_ways_and_proxies_is_what_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    proxies = f'[proxies.pacs]\nbase_path = "/pacs/"\n{PACS}[proxies.far]\nae_title = "FAR"\n{FAR}'
    file.write_text(BOTH_WAYS + 'confirm = "commitment"\nconfirm_s = "5m"\n' + STOW_TABLE + proxies)
    config = load_config(file)
    assert config.destinations == {
        "archive": DimseDestination(
            name="archive",
            ae_title="ARCHIVE",
            host="10.1.2.3",
            deliver=["c-store", "stow-rs"],
            stow_rs=StowReach(url="https://archive.example/dicom-web"),
            confirm="commitment",
            confirm_s=300.0,
        )
    }
    assert config.proxies == {
        "pacs": Proxy(name="pacs", base_path="/pacs", upstream=DimseUpstream(ae_title="PACS", host="10.1.2.6")),
        "far": Proxy(name="far", ae_title="FAR", upstream=WebUpstream(url="https://far.example/dicom-web")),
    }


@pytest.mark.parametrize(("title", "name"), [("ARCHIVE", "archive"), ("CLOUD", "cloud"), ("cloud", None)])
def test_req_127_each_destination_has_an_ae_title(tmp_path: Path, title: str, name: str | None) -> None:
    """The first in the file has a title that two have."""
    file = tmp_path / "router.toml"
    twin = ARCHIVE.replace("destinations.archive", "destinations.twin")
    file.write_text(ARCHIVE + twin + CLOUD)
    found = with_ae_title(load_config(file).destinations, title)
    assert (found.name if found else None) == name
