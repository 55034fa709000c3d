"""URLs of our resources as the client reached us, for Retrieve URL, BulkDataURI and Content-Location (PS3.18 §8.2).

The Host header is whatever a client writes, and what is made of it goes into answers: so it is checked (B55).
"""

from __future__ import annotations

import re

from starlette.requests import Request

from router.dicom.non_patient import category_of
from router.dicom.uids import Uid
from router.search import StoredInstance

_HOST = re.compile(r"[0-9A-Za-z.\-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?", re.ASCII)

PUBLIC_URL = "public_url"
"""Where the app's state has the Base URI that [http] public_url says."""
BASE_PATH = "base_path"
"""And the base path that goes with it."""
_LOOPBACK = ("127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}


def base_url(request: Request, base_path: str) -> str:
    """Give the Base URI, without a slash at its end; "" when the Host header is missing or no host.

    It is `public_url` of the app, where that has one: what a proxy in front has made of the request is not known here.
    """
    app = request.scope.get("app")
    if app is not None and (public_url := str(getattr(app.state, PUBLIC_URL, ""))):
        if getattr(app.state, BASE_PATH, base_path) == base_path:
            return public_url
        scheme, _, rest = public_url.partition("://")  # a proxy of ours stands beside our own services
        return f"{scheme}://{rest.partition('/')[0]}{base_path}"
    host = request.headers.get("host", "")
    scheme = request.scope["scheme"]  # request.url would be taken apart for it
    return f"{scheme}://{host}{_forgotten_port(request, host)}{base_path}" if _HOST.fullmatch(host) else ""


def _forgotten_port(request: Request, host: str) -> str:
    """Give the port that the Host header lacks although it names our own socket: dicomweb-client leaves it out.

    Any other name without a port may be that of a proxy, and means the scheme's port.
    """
    address, port = request.scope.get("server") or ("", None)
    ours = (address, f"[{address}]", "localhost" if address in _LOOPBACK else address)
    return f":{port}" if port and port != _PORTS.get(request.scope["scheme"]) and host in ours else ""


def base_reference(request: Request, base_path: str) -> str:
    """Give the Base URI or, without a usable Host header, its path, which clients resolve against their request."""
    return base_url(request, base_path) or base_path


def study_url(base: str, study: Uid) -> str:
    """Give a study's URL below the Base URI `base`."""
    return f"{base}/studies/{study}"


def series_url(base: str, study: Uid, series: Uid) -> str:
    """Give a series' URL below the Base URI `base`."""
    return f"{base}/studies/{study}/series/{series}"


def npi_url(base: str, npi_name: str, instance: Uid) -> str:
    """Give a non-patient instance's URL below the Base URI `base`."""
    return f"{base}/{npi_name}/{instance}"


def stored_url(base: str, instance: StoredInstance) -> str:
    """Give the URL of an instance, a patient's or not, below the Base URI `base`."""
    if category := category_of(instance.sop_class_uid):
        return npi_url(base, category.name, instance.sop_instance_uid)
    return instance_url(base, instance.study, instance.series, instance.sop_instance_uid)


def instance_url(base: str, study: Uid, series: Uid, instance: Uid) -> str:
    """Give an instance's URL below the Base URI `base`."""
    return f"{base}/studies/{study}/series/{series}/instances/{instance}"
