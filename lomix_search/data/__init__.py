"""Reading, splitting and augmenting images; everything ends in :class:`~lomix_search.data.dataset.Splits`."""
