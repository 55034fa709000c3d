"""Which attributes belong to patient, study, series and instance, and what a search must match and answer of them.

Tables 10.6.1-4, 10.6.1-5 and 10.6.3-3 to 10.6.3-5 of PS3.18; the modules of PS3.3 for what the index does not have.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.uids import Uid


class Level(StrEnum):
    """What is searched for. Patients only by C-FIND: QIDO-RS has no such resource."""

    PATIENT = "patient"
    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


class Entity(IntEnum):
    """What an attribute tells about (PS3.3 §A.1.2), from the highest down."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3


class Scope(msgspec.Struct, frozen=True):
    """Within what is searched: the UIDs of a path, or the unique keys of the levels above."""

    study: Uid | None = None
    series: Uid | None = None
    instance: Uid | None = None


ENTITY_OF: Final = {
    Level.PATIENT: Entity.PATIENT,
    Level.STUDY: Entity.STUDY,
    Level.SERIES: Entity.SERIES,
    Level.INSTANCE: Entity.INSTANCE,
}


def matched_entities(level: Level, scope: Scope) -> frozenset[Entity]:
    """Give the entities whose attributes may be matched (Table 10.6.1-4): the patient's always, and those between
    the scope and the level.
    """
    above = Entity.SERIES if scope.series is not None else Entity.STUDY if scope.study is not None else Entity.PATIENT
    return frozenset({Entity.PATIENT, ENTITY_OF[level]}.union(e for e in Entity if above < e <= ENTITY_OF[level]))


def tags(keywords: str) -> frozenset[int]:
    """Give the tags of keywords."""
    return frozenset(attribute_path(keyword)[0] for keyword in keywords.split())


_REQUIRED: Final = tags(
    "PatientName PatientID StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName StudyID "
    "Modality SeriesNumber PerformedProcedureStepStartDate PerformedProcedureStepStartTime InstanceNumber"
)
_REQUIRED_IN_REQUESTS: Final = (
    "RequestAttributesSequence.ScheduledProcedureStepID",
    "RequestAttributesSequence.RequestedProcedureID",
)
REQUIRED: Final[frozenset[AttributePath]] = frozenset(
    {(tag,) for tag in _REQUIRED} | {attribute_path(path) for path in _REQUIRED_IN_REQUESTS}
)
"""Required keys: stored empty they match everything (PS3.4 §C.2.2.1.2). Unique keys are never empty."""

ALWAYS: Final = {
    Entity.STUDY: tags(
        "StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName PatientName PatientID "
        "PatientBirthDate PatientSex StudyInstanceUID StudyID NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances"
    ),
    Entity.SERIES: tags("Modality StudyInstanceUID SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances"),
    Entity.INSTANCE: tags("SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID InstanceNumber"),
}
"""Answered also when empty (U and R), with the UIDs of what it is part of."""

IF_KNOWN: Final = {
    Entity.STUDY: tags("InstanceAvailability TimezoneOffsetFromUTC"),
    Entity.SERIES: tags(
        "TimezoneOffsetFromUTC SeriesDescription PerformedProcedureStepStartDate PerformedProcedureStepStartTime "
        "RequestAttributesSequence"
    ),
    Entity.INSTANCE: tags("InstanceAvailability TimezoneOffsetFromUTC Rows Columns BitsAllocated NumberOfFrames"),
}
"""Answered when there is a value (C)."""

_PATIENT: Final = tags(
    "PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID PatientBirthDate "
    "PatientBirthTime PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar "
    "PatientAlternativeCalendar PatientSex QualityControlSubject ReferencedPatientSequence OtherPatientIDs "
    "OtherPatientIDsSequence OtherPatientNames PatientBirthName PatientMotherBirthName EthnicGroup PatientComments "
    "PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence "
    "BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization StrainDescription "
    "StrainNomenclature StrainStockSequence StrainAdditionalInformation StrainCodeSequence "
    "ReferencedPatientPhotoSequence PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence "
    "SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence PatientAddress "
    "PatientTelephoneNumbers PatientReligiousPreference MilitaryRank BranchOfService CountryOfResidence "
    "RegionOfResidence ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID "
    "ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID "
    "ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber"
)
_STUDY: Final = tags(
    "StudyInstanceUID StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName "
    "ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers ReferringPhysicianIdentificationSequence "
    "ConsultingPhysicianName ConsultingPhysicianIdentificationSequence StudyID StudyDescription PhysiciansOfRecord "
    "PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy "
    "PhysiciansReadingStudyIdentificationSequence RequestingService RequestingServiceCodeSequence "
    "RequestingPhysician ReferencedStudySequence ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence "
    "AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight "
    "PatientBodyMassIndex PatientSizeCodeSequence MeasuredAPDimension MeasuredLateralDimension MedicalAlerts Allergies "
    "SmokingStatus PregnancyStatus LastMenstrualDate PatientState Occupation AdditionalPatientHistory AdmissionID "
    "IssuerOfAdmissionIDSequence ReasonForVisit ReasonForVisitCodeSequence ServiceEpisodeID "
    "IssuerOfServiceEpisodeIDSequence ServiceEpisodeDescription PatientSexNeutered ClinicalTrialTimePointID "
    "ClinicalTrialTimePointDescription LongitudinalTemporalOffsetFromEvent LongitudinalTemporalEventType "
    "ConsentForClinicalTrialUseSequence ModalitiesInStudy SOPClassesInStudy NumberOfStudyRelatedSeries "
    "NumberOfStudyRelatedInstances TimezoneOffsetFromUTC InstanceAvailability SpecificCharacterSet"
)
_SERIES: Final = tags(
    "SeriesInstanceUID Modality SeriesNumber Laterality SeriesDate SeriesTime SeriesDescription "
    "SeriesDescriptionCodeSequence PerformingPhysicianName PerformingPhysicianIdentificationSequence ProtocolName "
    "OperatorsName OperatorIdentificationSequence ReferencedPerformedProcedureStepSequence RelatedSeriesSequence "
    "BodyPartExamined PatientPosition AnatomicalOrientationType SmallestPixelValueInSeries LargestPixelValueInSeries "
    "RequestAttributesSequence PerformedProcedureStepID PerformedProcedureStepStartDate "
    "PerformedProcedureStepStartTime PerformedProcedureStepEndDate PerformedProcedureStepEndTime "
    "PerformedProcedureStepDescription PerformedProtocolCodeSequence CommentsOnThePerformedProcedureStep "
    "TreatmentSessionUID ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID ClinicalTrialSeriesDescription "
    "Manufacturer InstitutionName InstitutionAddress InstitutionalDepartmentName "
    "InstitutionalDepartmentTypeCodeSequence StationName ManufacturerModelName ManufacturerDeviceClassUID "
    "DeviceSerialNumber SoftwareVersions GantryID UDISequence DeviceUID SpatialResolution DateOfLastCalibration "
    "TimeOfLastCalibration FrameOfReferenceUID PositionReferenceIndicator SynchronizationFrameOfReferenceUID "
    "NumberOfSeriesRelatedInstances"
)


def entity_of(tag: int) -> Entity:
    """Say what an attribute tells about; what no higher module has is the instance's."""
    if tag in _PATIENT:
        return Entity.PATIENT
    if tag in _STUDY:
        return Entity.STUDY
    return Entity.SERIES if tag in _SERIES else Entity.INSTANCE


def last_tag_of(entities: Iterable[Entity]) -> int | None:
    """Give the highest tag that any of these entities has; None where it may be any."""
    highest = {Entity.PATIENT: max(_PATIENT), Entity.STUDY: max(_STUDY), Entity.SERIES: max(_SERIES)}
    wanted = list(entities)
    return None if Entity.INSTANCE in wanted else max(highest[entity] for entity in wanted)
