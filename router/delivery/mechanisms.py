"""The courier of a destination, made of those of the mechanisms that its configuration names (`deliver`)."""

from __future__ import annotations

from typing import assert_never

import msgspec

from router.config.model import (
    Destination,
    DimseDestination,
    Mechanism,
    SendRsDestination,
    StowDestination,
    StowReach,
)
from router.config.titles import ae_title_of
from router.delivery.cstore import CStoreCourier, StorePeer
from router.delivery.mixed import MixedCourier
from router.delivery.send_rs_courier import SendRsCourier
from router.delivery.stow import StowCourier
from router.sending.courier import Courier
from router.store.files import Store


def courier_for(destination: Destination, our_ae_title: str, store: Store) -> Courier:
    """Make the courier of `destination`: of its one mechanism, or of all of them in the order to try."""
    if isinstance(destination, SendRsDestination):
        return SendRsCourier(destination)
    couriers = [(mechanism, _by(mechanism, destination, our_ae_title, store)) for mechanism in destination.deliver]
    return couriers[0][1] if len(couriers) == 1 else MixedCourier(destination.name, couriers)


def _by(
    mechanism: Mechanism, destination: DimseDestination | StowDestination, our_ae_title: str, store: Store
) -> Courier:
    match mechanism:
        case "c-store":
            return CStoreCourier(_store_peer(destination), our_ae_title, store)
        case "stow-rs":
            return StowCourier(_stow_reach(destination), store)
        case _:
            assert_never(mechanism)


def _store_peer(destination: DimseDestination | StowDestination) -> DimseDestination | StorePeer:
    if isinstance(destination, DimseDestination):
        return destination
    assert destination.c_store is not None, "the configuration was checked"
    reach = msgspec.structs.asdict(destination.c_store)
    return StorePeer(name=destination.name, ae_title=ae_title_of(destination), **reach)


def _stow_reach(destination: DimseDestination | StowDestination) -> StowReach:
    if isinstance(destination, StowDestination):
        return destination
    assert destination.stow_rs is not None, "the configuration was checked"
    return destination.stow_rs
