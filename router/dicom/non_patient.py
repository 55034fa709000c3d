"""Non-patient instances (PS3.18 chapter 12): the six categories, their SOP classes, and what each is searched by.

The tables restate the attributes tables of PS3.4: U.6-1, X.6-1, BB.6-1 to BB.6-3, HH.6-1, JJ.2-1, II.6-1. The name
protocol-approvals is Supplement 248's (O-40). Pure data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

import msgspec

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.uids import Uid


class Usage(Enum):
    """What a key is for. The value is its letter in the tables below."""

    REQUIRED = "R"
    UNIQUE = "U"
    """Unique in the standard's tables, or matched at the server's option there; matched here."""
    OPTIONAL = "O"
    """Matched at the server's option; matched here."""
    RETURNED = "-"
    """Answered, never matched."""


class NpiKey(msgspec.Struct, frozen=True):
    """One attribute of a category's table."""

    path: AttributePath
    usage: Usage


class Category(msgspec.Struct, frozen=True):
    """One kind of non-patient instances: `name` is the npi-name, `tables` the keys of each of its SOP classes."""

    name: str
    title: str
    tables: dict[Uid, tuple[NpiKey, ...]]

    def kept(self, sop_class_uid: Uid) -> frozenset[AttributePath]:
        """What the index keeps of an instance."""
        return frozenset(key.path for key in self.tables[sop_class_uid])

    @property
    def matched(self) -> tuple[AttributePath, ...]:
        """What a search may ask for, in the order of the tables."""
        return self._paths(lambda usage: usage is not Usage.RETURNED)

    @property
    def returned(self) -> frozenset[AttributePath]:
        """What is only answered."""
        return frozenset(self._paths(lambda usage: usage is Usage.RETURNED))

    def _paths(self, wanted: Callable[[Usage], bool]) -> tuple[AttributePath, ...]:
        return tuple(dict.fromkeys(key.path for keys in self.tables.values() for key in keys if wanted(key.usage)))


_EVERY: Final = """
R SOPClassUID
U SOPInstanceUID
- SpecificCharacterSet
- TimezoneOffsetFromUTC
"""
_MACROS: Final = {
    "code": "R CodeValue, R LongCodeValue, R URNCodeValue, R CodingSchemeDesignator, R CodingSchemeVersion,"
    " - CodeMeaning",
    "instance": "R ReferencedSOPClassUID, R ReferencedSOPInstanceUID",
}
"""What stands in the items of a sequence that is written `Sequence: macro`. A returned sequence returns all of it."""

_COLOR_PALETTE: Final = """
R ContentLabel
- ContentDescription
- ContentCreatorName
- AlternateContentDescriptionSequence.ContentDescription
- AlternateContentDescriptionSequence.LanguageCodeSequence: code
"""
_HANGING_PROTOCOL: Final = """
R HangingProtocolName
R HangingProtocolLevel
R HangingProtocolDefinitionSequence.Modality
R HangingProtocolDefinitionSequence.AnatomicRegionSequence: code
R HangingProtocolDefinitionSequence.Laterality
R HangingProtocolDefinitionSequence.ProcedureCodeSequence: code
R HangingProtocolDefinitionSequence.ReasonForRequestedProcedureCodeSequence: code
R NumberOfPriorsReferenced
R HangingProtocolUserIdentificationCodeSequence: code
R HangingProtocolUserGroupName
R NumberOfScreens
- HangingProtocolDescription
- HangingProtocolCreator
- HangingProtocolCreationDateTime
- NominalScreenDefinitionSequence.NumberOfVerticalPixels
- NominalScreenDefinitionSequence.NumberOfHorizontalPixels
- NominalScreenDefinitionSequence.DisplayEnvironmentSpatialPosition
- NominalScreenDefinitionSequence.ScreenMinimumGrayscaleBitDepth
- NominalScreenDefinitionSequence.ScreenMinimumColorBitDepth
- NominalScreenDefinitionSequence.ApplicationMaximumRepaintTime
"""
_GENERIC_IMPLANT_TEMPLATE: Final = """
R Manufacturer
R ImplantName
R ImplantSize
R ImplantPartNumber
R ReplacedImplantTemplateSequence: instance
R DerivationImplantTemplateSequence: instance
R OriginalImplantTemplateSequence: instance
R EffectiveDateTime
R ImplantTargetAnatomySequence.AnatomicRegionSequence: code
R ImplantRegulatoryDisapprovalCodeSequence: code
R MaterialsCodeSequence: code
R CoatingMaterialsCodeSequence: code
"""
_IMPLANT_ASSEMBLY_TEMPLATE: Final = """
R ImplantAssemblyTemplateName
R Manufacturer
R ProcedureTypeCodeSequence: code
R ReplacedImplantAssemblyTemplateSequence: instance
R OriginalImplantAssemblyTemplateSequence: instance
R DerivationImplantAssemblyTemplateSequence: instance
R SurgicalTechnique
"""
_IMPLANT_TEMPLATE_GROUP: Final = """
R ImplantTemplateGroupName
R ImplantTemplateGroupIssuer
R EffectiveDateTime
R ReplacedImplantTemplateGroupSequence: instance
- ImplantTemplateGroupDescription
"""
_DEFINED_PROCEDURE_PROTOCOL: Final = """
R CustodialOrganizationSequence.InstitutionName
R CustodialOrganizationSequence.InstitutionCodeSequence: code
R ResponsibleGroupCodeSequence: code
R ProtocolName
R PotentialScheduledProtocolCodeSequence: code
R PotentialRequestedProcedureCodeSequence: code
R PotentialReasonsForProcedureCodeSequence: code
R PredecessorProtocolSequence: instance
R ContentCreatorName
R InstanceCreationDate
R InstanceCreationTime
R ClinicalTrialSponsorName
R ClinicalTrialProtocolID
R EquipmentModality
R ModelSpecificationSequence.Manufacturer
R ModelSpecificationSequence.ManufacturerRelatedModelGroup
R ModelSpecificationSequence.ManufacturerModelName
R ModelSpecificationSequence.SoftwareVersions
- ModelSpecificationSequence.DeviceSerialNumber
R AnatomicRegionSequence: code
R PrimaryAnatomicStructureSequence: code
- PotentialReasonsForProcedure
- PotentialDiagnosticTasks
"""
_INVENTORY: Final = """
R TransactionUID
R ContentDate
O ContentTime
O InventoryPurpose
O InventoryInstanceDescription
O InventoryLevel
O InventoryCompletionStatus
O TotalNumberOfStudyRecords
"""
# ScopeOfInventorySequence (O, universal) is left out: its items are keys of any kind; without them it would say "all".
_PROTOCOL_APPROVAL: Final = """
R InstanceCreationDate
R InstanceCreationTime
R ApprovalSubjectSequence: instance
R ApprovalSequence.AssertionCodeSequence: code
R ApprovalSequence.AsserterIdentificationSequence.PersonName
R ApprovalSequence.AsserterIdentificationSequence.PersonIdentificationCodeSequence: code
R ApprovalSequence.AsserterIdentificationSequence.OrganizationalRoleCodeSequence: code
R ApprovalSequence.AsserterIdentificationSequence.InstitutionName
R ApprovalSequence.AsserterIdentificationSequence.InstitutionCodeSequence: code
U ApprovalSequence.AsserterIdentificationSequence.InstitutionalDepartmentName
U ApprovalSequence.AsserterIdentificationSequence.InstitutionalDepartmentTypeCodeSequence: code
- ApprovalSequence.AsserterIdentificationSequence.Manufacturer
- ApprovalSequence.AsserterIdentificationSequence.ManufacturerModelName
- ApprovalSequence.AsserterIdentificationSequence.SoftwareVersions
R ApprovalSequence.AssertionDateTime
R ApprovalSequence.AssertionExpirationDateTime
U ApprovalSequence.RelatedAssertionSequence.ReferencedAssertionUID
- ApprovalSequence.AssertionUID
- ApprovalSequence.AssertionComments
"""


def _keys(table: str) -> tuple[NpiKey, ...]:
    """Read a table."""
    return tuple(key for line in (_EVERY + table.lstrip()).strip().splitlines() for key in _read(line))


def _read(line: str) -> Iterator[NpiKey]:
    letter, _, rest = line.partition(" ")
    name, _, macro = rest.partition(": ")
    if not macro:
        yield NpiKey(attribute_path(name), Usage(letter))
        return
    for inner in _MACROS[macro].split(","):
        inner_letter, _, inner_name = inner.strip().partition(" ")
        returned = inner_letter == Usage.RETURNED.value
        yield NpiKey(attribute_path(f"{name}.{inner_name}"), Usage(inner_letter if returned else letter))


_PROTOCOL_KEYS: Final = _keys(_DEFINED_PROCEDURE_PROTOCOL)
_CATEGORIES: Final = (
    Category("color-palettes", "Color Palettes", {Uid("1.2.840.10008.5.1.4.39.1"): _keys(_COLOR_PALETTE)}),
    Category(
        "defined-procedure-protocols",
        "Defined Procedure Protocols",
        {
            Uid("1.2.840.10008.5.1.4.1.1.200.1"): _PROTOCOL_KEYS,  # CT
            Uid("1.2.840.10008.5.1.4.1.1.200.7"): _PROTOCOL_KEYS,  # XA
        },
    ),
    Category("hanging-protocols", "Hanging Protocols", {Uid("1.2.840.10008.5.1.4.38.1"): _keys(_HANGING_PROTOCOL)}),
    Category(
        "implant-templates",
        "Implant Templates",
        {
            Uid("1.2.840.10008.5.1.4.43.1"): _keys(_GENERIC_IMPLANT_TEMPLATE),
            Uid("1.2.840.10008.5.1.4.44.1"): _keys(_IMPLANT_ASSEMBLY_TEMPLATE),
            Uid("1.2.840.10008.5.1.4.45.1"): _keys(_IMPLANT_TEMPLATE_GROUP),
        },
    ),
    Category("inventories", "Inventories", {Uid("1.2.840.10008.5.1.4.1.1.201.1"): _keys(_INVENTORY)}),
    Category(
        "protocol-approvals",
        "Protocol Approvals",
        {Uid("1.2.840.10008.5.1.4.1.1.200.3"): _keys(_PROTOCOL_APPROVAL)},
    ),
)

CATEGORIES: Final[dict[str, Category]] = {category.name: category for category in _CATEGORIES}
"""The categories by npi-name (PS3.18 Table 12.1.1-1)."""

_BY_SOP_CLASS: Final = {uid: category for category in _CATEGORIES for uid in category.tables}


def category_of(sop_class_uid: Uid) -> Category | None:
    """Give the category of a SOP class; None for a patient's."""
    return _BY_SOP_CLASS.get(sop_class_uid)
