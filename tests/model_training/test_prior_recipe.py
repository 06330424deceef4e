import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_training.prior_recipe import RECORD, PriorConfig


def test_what_is_not_given_keeps_its_default() -> None:
    config = PriorConfig.from_dict({"steps": 7, "coarse": {"teacher": {"channels": 8}}})
    default = PriorConfig()
    teacher = dataclasses.replace(default.coarse.teacher, channels=8)
    coarse = dataclasses.replace(default.coarse, teacher=teacher)
    assert config == dataclasses.replace(default, steps=7, coarse=coarse)


def test_settings_survive_json() -> None:
    config = PriorConfig.from_dict({"fine": {"matching": {"betas": [0.1, 0.2]}}})
    assert config.fine.matching.betas == (0.1, 0.2)
    assert PriorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_whole_number_is_read_where_a_number_is_wanted() -> None:
    ratio = PriorConfig.from_dict({"fine": {"steps_ratio": 1}}).fine.steps_ratio
    assert (ratio, type(ratio)) == (1.0, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 1}, "prior has no stepz; there are steps, "),
        (
            {"coarse": {"student": {"channels": 1}}},
            r"prior\.coarse\.student has no channels; there are width",
        ),
        ({"coarse": 3}, r"prior\.coarse must be a table, not 3"),
        ({"steps": 1.5}, r"prior\.steps must be a whole number, not 1\.5"),
        ({"copies": True}, r"prior\.copies must be a whole number, not True"),
        ({"augmentation": "much"}, r"prior\.augmentation must be a number, not 'much'"),
        ({"fine": {"matching": {"betas": [0.5]}}}, r"prior\.fine\.matching\.betas must be 2 numbers"),
    ],
)
def test_unknown_settings_and_other_types_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        PriorConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, r"prior\.steps must be at least 1, not 0"),
        ({"seed": -1}, r"prior\.seed must be at least 0, not -1"),
        ({"shrinkage": float("nan")}, r"prior\.shrinkage must be at least 0 and finite, not nan"),
        ({"fine": {"steps_ratio": 0.0}}, r"prior\.fine\.steps_ratio must be above 0 and finite"),
        (
            {"velocity_fields": {"dropout": 1.0}},
            r"prior\.velocity_fields\.dropout must be .* below 1, not 1\.0",
        ),
        ({"coarse": {"matching": {"betas": [0.5, 1.0]}}}, r"prior\.coarse\.matching\.betas must be"),
        ({"fine": {"fake": {"channels": 12}}}, "must be multiples of 8, the groups of their norm, not 12"),
        ({"latent_images": {"pooling": 3}}, "cell must be a multiple of pooling"),
        ({"latent_images": {"values": 49}}, "values no more than a cell holds"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriorConfig.from_dict(values)


def test_a_file_tells_the_settings_that_were_recorded_in_it(tmp_path: Path) -> None:
    config = dataclasses.replace(PriorConfig(), steps=123)
    np.savez(tmp_path / "prior.npz", **{"means": np.zeros(3), RECORD: config.record()})  # type: ignore[arg-type]
    assert PriorConfig.recorded(tmp_path / "prior.npz") == config


def test_a_file_without_a_record_tells_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "prior.npz", means=np.zeros(3))
    assert PriorConfig.recorded(tmp_path / "prior.npz") is None
