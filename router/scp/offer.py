"""What is offered on one association besides Verification and Storage, and how its negotiation is answered. Pure.

PS3.8 §9.3.3.2 (presentation contexts), PS3.7 §D.3.3.4 (roles), §D.3.3.5 (SOP class extended negotiation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, is_big_endian
from router.dicom.uids import VERIFICATION, AETitle, Uid
from router.dimse.commands import C_GET_RQ
from router.dimse.events import AssociateRequest, NegotiatedContext, Roles
from router.dimse.negotiation import ACCEPTED, answer_contexts
from router.scp.policy import AssociationPolicy
from router.scp.service import DimseService

ServicesByTitle = Mapping[AETitle, Sequence[DimseService]]
"""What is offered to those who call an AE title of ours."""


class Answer(NamedTuple):
    """What an A-ASSOCIATE-AC says of contexts, roles and application information."""

    contexts: tuple[NegotiatedContext, ...]
    roles: Mapping[Uid, Roles]
    extended: Mapping[Uid, bytes]


class Offer:
    """The services of one called AE title. Of several for one SOP class the first answers its negotiation."""

    def __init__(self, services: Sequence[DimseService]) -> None:
        self._services: dict[Uid, list[DimseService]] = {}
        for service in services:
            for sop_class in service.sop_classes:
                self._services.setdefault(sop_class, []).append(service)

    def has(self, sop_class: Uid) -> bool:
        """Whether it is a SOP class of a service."""
        return sop_class in self._services

    def service(self, sop_class: Uid, field: int) -> DimseService | None:
        """Give the service that performs an operation of a SOP class."""
        for service in self._services.get(sop_class, ()):
            if field in service.sop_classes[sop_class]:
                return service
        return None

    def answer(self, request: AssociateRequest, policy: AssociationPolicy) -> Answer:
        """Answer what was proposed. Data sets of services are parsed, so they are taken in the default syntaxes only;
        instances as the policy says.
        """
        contexts = self._answer_contexts(request, policy)
        accepted = {context.abstract_syntax for context in contexts if context.result == ACCEPTED}
        gets = any(self.service(sop_class, C_GET_RQ) is not None for sop_class in accepted)
        roles = {}
        for sop_class, proposed in request.roles.items():
            if sop_class in self._services and sop_class in accepted:
                roles[sop_class] = self._services[sop_class][0].roles(sop_class, proposed)
            elif sop_class in accepted and sop_class != VERIFICATION:
                roles[sop_class] = Roles(proposed.scu, proposed.scp and gets)
        extended = {}
        for sop_class, offered in request.extended.items():
            if sop_class in self._services and sop_class in accepted:
                granted = self._services[sop_class][0].grant(sop_class, offered)[: len(offered)]
                if granted:
                    extended[sop_class] = granted
        return Answer(contexts, roles, extended)

    def _answer_contexts(self, request: AssociateRequest, policy: AssociationPolicy) -> tuple[NegotiatedContext, ...]:
        def parses(transfer_syntax: Uid) -> bool:
            if is_big_endian(transfer_syntax):
                return policy.config.accept_big_endian
            return transfer_syntax in (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)

        instances = answer_contexts(
            request.contexts,
            accepts_sop_class=policy.accepts_sop_class,
            accepts_transfer_syntax=policy.accepts_transfer_syntax,
        )
        if not self._services:
            return instances
        services = answer_contexts(request.contexts, accepts_sop_class=self.has, accepts_transfer_syntax=parses)
        return tuple(
            one if self.has(one.abstract_syntax) else other for one, other in zip(services, instances, strict=True)
        )
