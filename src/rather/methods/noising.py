"""Options of how a denoising method noises responses; one set for all, with each paper's defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rather.policies.inversion import EvalAt
from rather.policies.noising import Forward, Inversion, Inverter, Noising, Stored
from rather.policies.timesteps import Spread, Timesteps

Model = Literal["shared", "independent", "inversion", "stored"]


class NoisingOptions(BaseModel):
    """Fresh noise that the responses of a comparison share; subclasses have other defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = Field(
        "shared", description="fresh noise shared in the pair or independent, DDIM inversion, stored noise"
    )
    steps: int = Field(10, ge=1, description="grid of an inversion")
    inverter: Inverter = Field("policy", description="network that inverts: the current policy or the reference")
    eval_at: EvalAt = Field("current", description="timestep at which a step of an inversion asks the network")
    renoise: bool = Field(False, description="correct each step of an inversion once (ReNoise)")
    eta: float = Field(0.0, ge=0, description="random term after each step of an inversion")
    timesteps: Spread = Field("uniform", description="distribution of timesteps: uniform or logit_normal")
    mean: float = Field(0.0, description="mean of logit_normal")
    deviation: float = Field(1.0, gt=0, description="standard deviation of logit_normal")
    earliest: float = Field(0.0, ge=0, lt=1, description="least noise, as a share of all timesteps")
    latest: float = Field(1.0, gt=0, le=1, description="most noise, as a share of all timesteps")

    @model_validator(mode="after")
    def _consistent(self) -> NoisingOptions:
        if self.earliest >= self.latest:
            raise ValueError("noising.earliest has to be below noising.latest")
        fields = type(self).model_fields  # a resolved config gives every option, so what counts is what differs
        changed = {name for name, field in fields.items() if getattr(self, name) != field.default}
        of_inversion = {"steps", "inverter", "eval_at", "renoise", "eta"} & changed
        if of_inversion and self.model != "inversion":
            raise ValueError(f"noising.{min(of_inversion)} belongs to noising.model inversion")
        if {"mean", "deviation"} & changed and self.timesteps != "logit_normal":
            raise ValueError("noising.mean and noising.deviation belong to noising.timesteps logit_normal")
        return self

    def build(self) -> Noising | None:
        """``None`` for what a denoising policy does unasked, so that other policies can have the method too."""
        times = Timesteps(self.timesteps, self.mean, self.deviation, self.earliest, self.latest)
        if self.model == "inversion":
            return Inversion(self.steps, self.inverter, self.eval_at, self.renoise, self.eta, times)
        rule = Stored(times) if self.model == "stored" else Forward(self.model == "shared", times)
        return None if rule == Forward() else rule


class InversionOptions(NoisingOptions):
    """DDIM inversion."""

    model: Model = Field("inversion", description=NoisingOptions.model_fields["model"].description)


class RenoisedOptions(InversionOptions):
    """DDIM inversion with a ReNoise correction in each step, evaluated where the step arrives."""

    eval_at: EvalAt = Field("next", description=NoisingOptions.model_fields["eval_at"].description)
    renoise: bool = Field(True, description=NoisingOptions.model_fields["renoise"].description)


class StoredOptions(NoisingOptions):
    """The noise that each response was generated from."""

    model: Model = Field("stored", description=NoisingOptions.model_fields["model"].description)
