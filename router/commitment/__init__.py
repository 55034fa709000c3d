"""Storage commitment, asked and answered (PS3.4 Annex J; PS3.18 chapter 13): what fronts and couriers share."""
