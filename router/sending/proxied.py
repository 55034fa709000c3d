"""Send requests that the archive behind a proxy carries out (Sup 248 B.X3): taken, and from then on like all others.

They share the space of Transaction UIDs, the counters and the life of `requests`; `delivery.proxied_send` has them
carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import anyio

from router.config.model import Config
from router.dicom.uids import AETitle
from router.journal import send_requests
from router.journal.journal import Journal
from router.journal.proxied import ProxiedInstance
from router.journal.send_requests import NewRequest
from router.sending.clock import Clock, WallClock
from router.sending.requests import Progress, SendRequest, UidInUse


class ProxiedRequests:
    """Takes send requests for upstreams. `wake` hints at the proxy that has something new to do."""

    def __init__(
        self,
        journal: Journal,
        wake: Callable[[str], None],
        config: Callable[[], Config],
        *,
        clock: Clock | None = None,
    ):
        self._journal, self._wake, self._config = journal, wake, config
        self._clock: Clock = clock or WallClock()

    async def submit(
        self, request: SendRequest, *, proxy: str, move_destination: AETitle, instances: Sequence[ProxiedInstance]
    ) -> Progress:
        """Make the request with its instances, in one transaction, and have it carried out.

        When this returns, a crash loses nothing of it. Raises UidInUse, StorageError.
        """
        now = self._clock.now()
        row = NewRequest(
            transaction_uid=request.transaction_uid,
            origin="proxy",
            resource=request.resource,
            requester=request.requester,
            query=request.query,
            destination=request.destination,
            source=request.source,
            created_at=now,
            expires_at=now + self._config().sending.request_lifetime_s,
        )
        submit = partial(
            send_requests.submit_proxied,
            request=row,
            proxy=proxy,
            move_destination=move_destination,
            instances=instances,
        )
        with anyio.CancelScope(shield=True):  # it takes a commit, and what is journalled is carried out
            made = await self._journal.write(submit)
        if made is None:
            raise UidInUse
        if made:
            self._wake(proxy)
        return Progress(made, 0, 0, 0, (), finished=not made, created_at=now)
