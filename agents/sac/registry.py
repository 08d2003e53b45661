"""What MTSAC's critics give, by name; a class is imported when its settings are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from mtrl.agents.settings import Choice, Entry, Registry

if TYPE_CHECKING:
    from mtrl.agents.sac.values import Value

VALUES: Registry[Value] = Registry(
    "value",
    {
        "scalar": Entry(
            "mtrl.agents.sac.values:Scalar", "One number, learned by squared error."
        ),
        "categorical": Entry(
            "mtrl.agents.sac.values:CategoricalValue",
            "Probabilities of atoms, learned by cross-entropy; their mean is the value.",
        ),
    },
)
ValueChoice = Annotated[Choice, BeforeValidator(VALUES.choice), VALUES]
