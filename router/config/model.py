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
    """A larger instance is refused, so that an endless one cannot fill the disk (B20)."""
    connections_per_s: Annotated[float, Meta(ge=0.1, le=100_000.0)] = 20.0
    """New connections a second from one address, on average; beyond this they are closed at once (B46)."""
    connections_burst: Annotated[int, Meta(ge=1, le=100_000)] = 200
    """So many may come at once after a quiet time."""
    max_find_results: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Most answers to one C-FIND; a query that matches more ends with A700 after so many, which says so."""
    move_pending_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 1.0
    """How often a C-MOVE or C-GET is told how far it is (Pending, PS3.4 §C.4.2.3.1); 0: only at the end."""


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[http]`: the DICOMweb front."""

    listen: Listen = Listen("127.0.0.1", 8080)
    base_path: BasePath = "/dicom-web"
    """The services stand below this path, as at http://HOST:PORT/dicom-web/studies; "/" for the root."""
    insecure_http: bool = False
    """Allow plain HTTP on an address other than loopback, where all on the network can read it (B104)."""
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
    """A send request that matches more is refused (413): the counters of its result end there (O-19)."""
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
    """`[rules]`: where the rule files are, and when a series or study is complete."""

    path: Path = Path("rules")
    quiet_period_s: Timeout = 60.0
    """A series or study is complete when nothing of it arrived for so long (rules with when = "series" or "study")."""


class SendingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[sending]`: when what was not delivered is tried again, for all destinations."""

    backoff_first_s: Period = 30.0
    """A transient failure is tried again within a random time up to this, then up to twice that, and so on."""
    backoff_cap_s: Period = 3600.0
    """The longest that this time grows to."""
    lifetime_s: Period = 14 * 86_400.0
    """After so long without success an instance is parked for a person to look at, never deleted."""
    request_lifetime_s: Period = 86_400.0
    """What was asked for by SEND-RS and is not delivered after so long has failed, as its client is told."""
    move_retry_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 60.0
    """For how long the instances of a C-MOVE are tried again, and how long it waits for a destination that takes
    nothing: its SCU waits too. 0: each is tried once."""
    probe_s: Period = 60.0
    """How often a misconfigured or dead destination is asked again."""


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[log]`: what goes to stderr, one line an event."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Events of this weight and above are written."""
    format: Literal["text", "json"] = "text"
    """`text`: key=value; `json`: an object with the same fields."""


Mechanism = Literal["c-store", "stow-rs"]
"""How instances can be brought to a destination (Sup 248, PS3.4 §C.4.2.3.1.1)."""


Confirmation = Literal["answer", "commitment"]


class StowReach(msgspec.Struct, frozen=True, kw_only=True):
    """`[destinations.<name>.stow_rs]`: the STOW-RS origin server of a destination with kind = "dimse"."""

    url: UrlText
    """Its base URI, without /studies and without a slash at its end."""
    connections: Concurrency = 2
    batch_instances: Count = 100
    """Instances in one request, at most: what a server has to hold, and what a failure repeats ..."""
    batch_bytes: InstanceBytes = 64 * 1024**2
    """... and bytes; an instance larger than this goes alone."""
    connect_s: Timeout = 10.0
    answer_s: Timeout = 300.0
    headers: dict[HeaderName, HeaderValue] = msgspec.field(default_factory=dict)
    """Sent with each request. Secrets come from `bearer_token_file`."""
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    empty_200: Literal["uncertain", "accept"] = "uncertain"
    """A 200 that names no instance is not a success, unless "accept" (then: completed with a warning)."""


class StoreReach(msgspec.Struct, frozen=True, kw_only=True):
    """`[destinations.<name>.c_store]`: the C-STORE SCP of a destination with kind = "stow-rs"."""

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


class DimseDestination(StoreReach, frozen=True, kw_only=True, tag_field="kind", tag="dimse"):
    """`[destinations.<name>]` with kind = "dimse": a C-STORE SCP."""

    name: str
    ae_title: AETitleText
    send_rs: bool = True
    """May be asked for by SEND-RS; rules may send to it in any case."""
    aliases: list[UrlText] = msgspec.field(default_factory=list)
    """URLs that mean this destination in a SEND-RS request, besides dicom://host:port/AETITLE (O-07)."""
    deliver: list[Mechanism] = msgspec.field(default_factory=lambda: ["c-store"])
    """The mechanisms to try, in this order; an instance that fails by one is tried by the next."""
    stow_rs: StowReach | None = None
    """Where "stow-rs" in `deliver` goes."""
    confirm: Confirmation = "answer"
    """An instance is delivered when the destination has answered, or only when it has committed to it (storage
    commitment, PS3.4 Annex J, PS3.18 chapter 13)."""
    confirm_s: Period = 3600.0
    """Longest wait for that commitment."""


class StowDestination(StowReach, frozen=True, kw_only=True, tag_field="kind", tag="stow-rs"):
    """`[destinations.<name>]` with kind = "stow-rs": a STOW-RS origin server; `url` is its base URI."""

    name: str
    send_rs: bool = True
    """May be asked for by SEND-RS; rules may send to it in any case."""
    aliases: list[UrlText] = msgspec.field(default_factory=list)
    """URLs that mean this destination in a SEND-RS request, besides `url`."""
    ae_title: OptionalAETitle = ""
    """What C-MOVE calls this destination; its name in upper case when empty."""
    deliver: list[Mechanism] = msgspec.field(default_factory=lambda: ["stow-rs"])
    """The mechanisms to try, in this order; an instance that fails by one is tried by the next."""
    c_store: StoreReach | None = None
    """Where "c-store" in `deliver` goes, to `ae_title`."""
    confirm: Confirmation = "answer"
    """An instance is delivered when the destination has answered, or only when it has committed to it (storage
    commitment, PS3.4 Annex J, PS3.18 chapter 13)."""
    confirm_s: Period = 3600.0
    """Longest wait for that commitment."""


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
    ae_title: OptionalAETitle = ""
    """What C-MOVE calls this destination; its name in upper case when empty."""


Destination = DimseDestination | StowDestination | SendRsDestination


class DimseUpstream(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dimse"):
    """`upstream` with kind = "dimse": a PACS, asked by C-FIND, C-MOVE and N-ACTION."""

    ae_title: AETitleText
    host: HostText
    port: Port = 104
    calling_aet: OptionalAETitle = ""
    """Our AE title towards it; [dicom] ae_title when empty."""
    batch_instances: Count = 100
    """Instances named in one C-MOVE; fewer when their UIDs would not fit (O-56)."""
    connect_s: Timeout = 10.0
    answer_s: Timeout = 60.0
    """Longest wait for one response, and between two of them."""


class WebUpstream(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dicomweb"):
    """`upstream` with kind = "dicomweb": a SEND-RS origin server, which may offer storage commitment too."""

    url: UrlText
    """Its base URI, without a slash at its end."""
    connect_s: Timeout = 10.0
    answer_s: Timeout = 60.0
    follow_s: Timeout = 86_400.0
    """How long one request is followed."""
    headers: dict[HeaderName, HeaderValue] = msgspec.field(default_factory=dict)
    bearer_token_file: Path | None = None
    ca_file: Path | None = None


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """`[proxies.<name>]`: a front of ours for an archive that speaks only the other protocol (Sup 248, B.X3)."""

    name: str
    upstream: DimseUpstream | WebUpstream
    base_path: BasePath = ""
    """Of a DIMSE upstream, which needs it: where its web services stand, as at http://HOST:PORT/pacs/studies."""
    ae_title: OptionalAETitle = ""
    """Of a DICOMweb upstream, which needs it: the called AE title by which it is meant (PS3.4 §C.4.2.3.1.2)."""


class CommitmentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[commitment]`: storage commitment that is asked of us (PS3.4 Annex J, PS3.18 chapter 13)."""

    means: Literal["stored", "delivered", "committed"] = "stored"
    """What we commit to: it is on our disk, read again and found unchanged; or every destination of its rules has it;
    or they have committed to it in turn."""
    decide_s: Period = 7 * 86_400.0
    """What is not delivered or committed to within so long is answered as failed."""
    report_s: Period = 7 * 86_400.0
    """How long we try to bring an N-EVENT-REPORT to who asked."""
    result_ttl_s: Period = 7 * 86_400.0
    """An answer is kept for so long after it was ready (then 410)."""
    tombstone_ttl_s: Period = 30 * 86_400.0
    """Its Transaction UID is remembered for so long after that (then 404)."""


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
    commitment: CommitmentConfig = CommitmentConfig()
    destinations: dict[str, Destination] = msgspec.field(default_factory=dict)
    proxies: dict[str, Proxy] = msgspec.field(default_factory=dict)
    peers: dict[str, Peer] = msgspec.field(default_factory=dict)
