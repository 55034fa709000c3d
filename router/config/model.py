"""router.toml as frozen structs. Every limit stands here with its unit, its default and the reason for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec


class Listen(msgspec.Struct, frozen=True):
    host: str
    port: int


class DicomConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[dicom]`: the DIMSE front."""

    ae_title: str = "SENDRS"
    listen: Listen = Listen("127.0.0.1", 11112)
    max_pdu_bytes: int = 131_072
    """Largest P-DATA-TF that we let a peer send (PS3.8 §D.1). 128 KiB is what fast peers ask for."""
    max_associations: int = 64
    max_associations_per_peer: int = 16
    accept_unknown_sop_classes: bool = True
    """Take storage SOP classes that the standard does not list (private, or newer than this release)."""
    accept_unknown_transfer_syntaxes: bool = True
    accept_big_endian: bool = True
    accept_odd_uids: bool = True
    """Take UIDs whose components have leading zeros; they occur in the field."""
    artim_s: float = 30.0
    """Time for a peer to send its A-ASSOCIATE-RQ, or to close after a rejection (PS3.8 §9.1.5)."""
    idle_s: float = 60.0
    """An association on which nothing moves for so long is aborted."""
    max_instance_bytes: int = 16 * 1024**3
    """An endless data set is refused here (B20)."""
    connections_per_s: float = 20.0
    connections_burst: int = 200
    """New connections per second and address, beyond which they are closed at once (B46)."""


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[http]`: the DICOMweb front."""

    listen: Listen = Listen("127.0.0.1", 8080)
    base_path: str = "/dicom-web"
    insecure_http: bool = False
    """Plain HTTP on an address other than loopback must be asked for (B104)."""


class StateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[state]`: where instances and the journal live."""

    path: Path = Path("/var/lib/sendrs")
    min_free_bytes: int = 1024**3
    """Below this much free space new instances are refused; what is stored is never deleted to make room."""
    unsafe_filesystem: bool = False
    """Allow tmpfs, NFS, vfat and their like, which break the durability promise (B106)."""


class RulesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[rules]`."""

    path: Path = Path("rules")
    quiet_period_s: float = 60.0
    """A series or study counts as complete when nothing of it arrived for so long (rules with when = "series" or "study")."""


class SendingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[sending]`: defaults for every lane."""

    backoff_first_s: float = 30.0
    backoff_cap_s: float = 3600.0
    """A transient failure is tried again after a random time up to 30 s, doubling to an hour."""
    lifetime_s: float = 14 * 86_400.0
    """After two weeks without success an instance is parked (never deleted)."""
    probe_s: float = 60.0
    """How often a misconfigured or dead destination is asked again."""


class DimseDestination(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dimse"):
    """`[destinations.<name>]` with kind = "dimse": a C-STORE SCP."""

    name: str
    ae_title: str
    host: str
    port: int = 104
    calling_aet: str = ""
    """Our AE title towards it; [dicom] ae_title when empty."""
    associations: int = 2
    """Most associations at once: a typical PACS allows ten for everybody."""
    max_pdu_bytes: int = 131_072
    connect_s: float = 10.0
    answer_s: float = 60.0
    """Longest wait for one answer (association, C-STORE-RSP) and for one write to be taken."""
    idle_s: float = 2.0
    """An association without work is released after so long."""


class StowDestination(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="stow-rs"):
    """`[destinations.<name>]` with kind = "stow-rs": a STOW-RS origin server; `url` is its base URI."""

    name: str
    url: str
    connections: int = 2
    batch_instances: int = 100
    batch_bytes: int = 64 * 1024**2
    connect_s: float = 10.0
    answer_s: float = 300.0
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Sent with each request. Secrets come from `bearer_token_file`."""
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    empty_200: Literal["uncertain", "accept"] = "uncertain"
    """A 200 that names no instance is not a success, unless "accept" (then: completed with a warning)."""


Destination = DimseDestination | StowDestination


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """`[peers.<name>]`: who may call. With no peer listed, callers on loopback only."""

    name: str
    ae_title: str
    address: str
    """An address or a network in CIDR form."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of router.toml, paths made absolute."""

    file: Path
    dicom: DicomConfig = DicomConfig()
    http: HttpConfig = HttpConfig()
    state: StateConfig = StateConfig()
    rules: RulesConfig = RulesConfig()
    sending: SendingConfig = SendingConfig()
    destinations: dict[str, Destination] = msgspec.field(default_factory=dict)
    peers: dict[str, Peer] = msgspec.field(default_factory=dict)
