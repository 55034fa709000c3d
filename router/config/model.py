"""router.toml as frozen structs. Every limit stands here with its unit, its default and the reason for it.

The annotations are what the loader checks: a range (`ge`, `le`) or the name of a form in `config/forms.py`. A number
whose name ends in `_s` is a time in seconds and may be written "5m", one in `_bytes` a size, also written "64MiB".
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65_535)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Concurrency = Annotated[int, Meta(ge=1, le=64)]
Timeout = Annotated[float, Meta(ge=0.1, le=86_400.0)]
"""Shorter than a tenth of a second is a typing error; a day is as good as for ever."""
SyncWait = Annotated[float, Meta(ge=0.0, le=600.0)]
Period = Annotated[float, Meta(ge=0.01, le=10 * 366 * 86_400.0)]
PduBytes = Annotated[int, Meta(ge=4096, le=1024**2)]
"""Memory is bounded by connections times this, hence the upper end; 4 KiB is the least that all known peers manage."""
InstanceBytes = Annotated[int, Meta(ge=1024, le=1024**4)]
AETitleText = Annotated[str, Meta(extra={"form": "ae_title"})]
OptionalAETitle = Annotated[str, Meta(extra={"form": "optional_ae_title"})]
HostText = Annotated[str, Meta(extra={"form": "host"})]
OptionalUrl = Annotated[str, Meta(extra={"form": "optional_url"})]
UrlText = Annotated[str, Meta(extra={"form": "url"})]
NetworkText = Annotated[str, Meta(extra={"form": "network"})]
BasePath = Annotated[str, Meta(extra={"form": "base_path"})]
HeaderName = Annotated[str, Meta(extra={"form": "header_name"})]
HeaderValue = Annotated[str, Meta(extra={"form": "header_value"})]


class Listen(msgspec.Struct, frozen=True):
    """Written "host:port" or "[IPv6]:port"; port 0 takes any free one."""

    host: str
    port: int


class DicomConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[dicom]`: the DIMSE front."""

    ae_title: AETitleText = "SENDRS"
    listen: Listen = Listen("127.0.0.1", 11112)
    max_pdu_bytes: PduBytes = 131_072
    """Largest P-DATA-TF that we let a peer send (PS3.8 §D.1). 128 KiB is what fast peers ask for."""
    max_associations: Count = 64
    max_associations_per_peer: Count = 16
    accept_unknown_sop_classes: bool = True
    """Take storage SOP classes that the standard does not list (private, or newer than this release)."""
    accept_unknown_transfer_syntaxes: bool = True
    accept_big_endian: bool = True
    accept_odd_uids: bool = True
    """Take UIDs whose components have leading zeros; they occur in the field."""
    artim_s: Timeout = 30.0
    """Time for a peer to send its A-ASSOCIATE-RQ, or to close after a rejection (PS3.8 §9.1.5)."""
    idle_s: Timeout = 60.0
    """An association on which nothing moves for so long is aborted."""
    max_instance_bytes: InstanceBytes = 16 * 1024**3
    """An endless data set is refused here (B20)."""
    connections_per_s: Annotated[float, Meta(ge=0.1, le=100_000.0)] = 20.0
    connections_burst: Annotated[int, Meta(ge=1, le=100_000)] = 200
    """New connections per second and address, beyond which they are closed at once (B46)."""


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[http]`: the DICOMweb front."""

    listen: Listen = Listen("127.0.0.1", 8080)
    base_path: BasePath = "/dicom-web"
    """Without a slash at its end; "" when the services stand at the root."""
    insecure_http: bool = False
    """Plain HTTP on an address other than loopback must be asked for (B104)."""
    names: list[HostText] = msgspec.field(default_factory=list)
    """What clients call this router in their Host header, besides addresses and the machine's own name (B70)."""
    public_url: OptionalUrl = ""
    """The Base URI as clients write it, when that is not the address they reach: behind a reverse proxy with TLS."""
    sync_budget_s: SyncWait = 0.0
    """How long the answer to a SEND-RS request waits for its end unless the client says (Prefer: wait)."""
    max_sync_s: SyncWait = 30.0
    """Longest that a client may have us wait: many proxies give up after 60 s."""
    result_ttl_s: Period = 86_400.0
    """The result of a send request is kept for so long after its end (then 410, O-26)."""
    tombstone_ttl_s: Period = 30 * 86_400.0
    """Its Transaction UID is remembered for so long after that (then 404, and free again)."""
    max_send_instances: Annotated[int, Meta(ge=1, le=65_535)] = 65_535
    """A send request that matches more is refused (413): the counters of its module are US (O-19)."""
    allow_unfiltered_send: bool = False
    """Take a send request of all studies, series or instances that has no search key: the whole archive (O-21)."""


class StateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[state]`: where instances and the journal live."""

    path: Path = Path("/var/lib/sendrs")
    min_free_bytes: Annotated[int, Meta(ge=0, le=1024**5)] = 1024**3
    """Below this much free space new instances are refused; what is stored is never deleted to make room."""
    unsafe_filesystem: bool = False
    """Allow tmpfs, NFS, vfat and their like, which break the durability promise (B106)."""


class RulesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[rules]`."""

    path: Path = Path("rules")
    quiet_period_s: Timeout = 60.0
    """A series or study is complete when nothing of it arrived for so long (rules with when = "series" or "study")."""


class SendingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[sending]`: defaults for every lane."""

    backoff_first_s: Period = 30.0
    backoff_cap_s: Period = 3600.0
    """A transient failure is tried again after a random time up to 30 s, doubling to an hour."""
    lifetime_s: Period = 14 * 86_400.0
    """After two weeks without success an instance is parked (never deleted)."""
    request_lifetime_s: Period = 86_400.0
    """What was asked for by SEND-RS ends within a day: what is not delivered then has failed, as its client is told."""
    probe_s: Period = 60.0
    """How often a misconfigured or dead destination is asked again."""


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[log]`: what goes to stderr, one line an event."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class DimseDestination(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dimse"):
    """`[destinations.<name>]` with kind = "dimse": a C-STORE SCP."""

    name: str
    ae_title: AETitleText
    host: HostText
    port: Port = 104
    calling_aet: OptionalAETitle = ""
    """Our AE title towards it; [dicom] ae_title when empty."""
    associations: Concurrency = 2
    """Most associations at once: a typical PACS allows ten for everybody."""
    max_pdu_bytes: PduBytes = 131_072
    connect_s: Timeout = 10.0
    answer_s: Timeout = 60.0
    """Longest wait for one answer (association, C-STORE-RSP) and for one write to be taken."""
    idle_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 2.0
    """An association without work is released after so long."""
    send_rs: bool = True
    """May be asked for by SEND-RS; rules may send to it in any case."""
    aliases: list[UrlText] = msgspec.field(default_factory=list)
    """URLs that mean this destination in a SEND-RS request, besides dicom://host:port/AETITLE (O-07)."""


class StowDestination(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="stow-rs"):
    """`[destinations.<name>]` with kind = "stow-rs": a STOW-RS origin server; `url` is its base URI."""

    name: str
    url: UrlText
    """Without a slash at its end."""
    connections: Concurrency = 2
    batch_instances: Count = 100
    batch_bytes: InstanceBytes = 64 * 1024**2
    """A request ends at so many instances or bytes: what a server has to hold, and what a failure repeats."""
    connect_s: Timeout = 10.0
    answer_s: Timeout = 300.0
    headers: dict[HeaderName, HeaderValue] = msgspec.field(default_factory=dict)
    """Sent with each request. Secrets come from `bearer_token_file`."""
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    empty_200: Literal["uncertain", "accept"] = "uncertain"
    """A 200 that names no instance is not a success, unless "accept" (then: completed with a warning)."""
    send_rs: bool = True
    """May be asked for by SEND-RS; rules may send to it in any case."""
    aliases: list[UrlText] = msgspec.field(default_factory=list)
    """URLs that mean this destination in a SEND-RS request, besides `url`."""


class SendRsDestination(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="send-rs"):
    """`[destinations.<name>]` with kind = "send-rs": a SEND-RS server, asked to send what it holds to `target`."""

    name: str
    url: UrlText
    """Its base URI, without a slash at its end. It must hold the instances already: none is sent to it."""
    target: UrlText
    """The `destination` that it is asked to send to (Sup 248 §10.X.1)."""
    connections: Concurrency = 2
    batch_instances: Count = 100
    """Instances in one request; fewer when their UIDs would not fit into a request line of 8 KiB."""
    connect_s: Timeout = 10.0
    answer_s: Timeout = 60.0
    follow_s: Timeout = 86_400.0
    """How long one request is followed: a server like this one goes on trying for a day."""
    headers: dict[HeaderName, HeaderValue] = msgspec.field(default_factory=dict)
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    send_rs: bool = True
    """May be asked for by SEND-RS; rules may send to it in any case."""
    aliases: list[UrlText] = msgspec.field(default_factory=list)
    """URLs that mean this destination in a SEND-RS request, besides `target`."""


Destination = DimseDestination | StowDestination | SendRsDestination


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """`[peers.<name>]`: who may call. With no peer listed, callers on loopback only."""

    name: str
    ae_title: AETitleText
    address: NetworkText
    """An address or a network in CIDR form."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of router.toml, paths made absolute."""

    file: Path
    dicom: DicomConfig = DicomConfig()
    http: HttpConfig = HttpConfig()
    state: StateConfig = StateConfig()
    rules: RulesConfig = RulesConfig()
    sending: SendingConfig = SendingConfig()
    log: LogConfig = LogConfig()
    destinations: dict[str, Destination] = msgspec.field(default_factory=dict)
    peers: dict[str, Peer] = msgspec.field(default_factory=dict)
