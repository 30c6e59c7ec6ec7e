"""Numbers within bounds, as the sections of a recipe use them."""

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1, lt=2**31)]
CountFromZero = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch and numpy both take
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
