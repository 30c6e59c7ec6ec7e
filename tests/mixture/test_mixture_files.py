"""Mixture files: round trip, damage, files of others, operators' parameters beside them."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as packed
from support.mixture_losses import example_mixture
from torch import Tensor

from lomix_search.errors import MixtureError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.provenance import Provenance, StageInfo
from lomix_search.mixture.rules import OperatorRule
from lomix_search.mixture.space import SearchSpace


@pytest.fixture
def mixture() -> Mixture:
    return example_mixture()


def test_a_mixture_survives_its_files(mixture: Mixture, tmp_path: Path) -> None:
    mixture.save(tmp_path / "mixture.json")
    again = Mixture.load(tmp_path / "mixture.json")
    assert again.weights == mixture.weights and again.space == mixture.space and again.stages == mixture.stages
    assert all(torch.equal(tensor, mixture.operators[name]) for name, tensor in again.operators.items())
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "mixture.json").read_bytes()


def test_damaged_files(mixture: Mixture, tmp_path: Path) -> None:
    path = tmp_path / "mixture.json"
    mixture.save(path)
    whole, tensors = path.read_text(), (tmp_path / "mixture.safetensors").read_bytes()

    (tmp_path / "mixture.safetensors").write_bytes(tensors[:-4])
    with pytest.raises(MixtureError, match="does not belong to the mixture beside it: the checksums differ"):
        Mixture.load(path)
    (tmp_path / "mixture.safetensors").unlink()
    with pytest.raises(MixtureError, match=r"mixture\.safetensors is missing"):
        Mixture.load(path)
    path.write_text(whole[:100])
    with pytest.raises(MixtureError, match="is not a mixture: not JSON"):
        Mixture.load(path)
    path.write_text("{}")
    with pytest.raises(MixtureError, match='it lacks "format": "lomix-mixture"'):
        Mixture.load(path)
    path.write_text(whole.replace('"version": 1', '"version": 7'))
    with pytest.raises(MixtureError, match="is a mixture of version 7; this library reads up to 1"):
        Mixture.load(path)
    path.write_text(whole.replace('"weight": 0.1\n', '"weight": -3\n'))
    with pytest.raises(MixtureError, match=r"maps\[0\]\.weight"):
        Mixture.load(path)


# -- files of others ---------------------------------------------------------------------------------------------------


def saved(folder: Path) -> tuple[Path, Mixture]:
    """Save a mixture as a search does, with everything in it."""
    loss = MixtureLoss("lomix", 3, 4)
    with torch.no_grad():
        loss.weighting.theta.copy_(torch.linspace(-2, 2, 19))
    stages = [StageInfo(name=f"up{i}", channels=8, stride=(s, s)) for i, s in enumerate((4, 2, 1))]
    found = loss.mixture(stages, Provenance(recipe="r", seed=3, versions={"torch": "2"}, metrics={"val.dice": 0.5}))
    folder.mkdir(exist_ok=True)
    found.save(folder / "mixture.json")
    return folder / "mixture.json", found


def same(a: Mixture, b: Mixture) -> bool:
    tensors = a.operators.keys() == b.operators.keys() and all(
        torch.equal(a.operators[k], b.operators[k]) for k in a.operators
    )
    hidden = {"spread", "operators_sha256", "sha256"}
    return tensors and a.model_dump(exclude=hidden) == b.model_dump(exclude=hidden)


def damage(data: st.DataObject, folder: Path) -> None:
    """Whatever bytes change: the same values come out, or a MixtureError, soon."""
    path = folder / "mixture.json"
    if not path.exists():
        saved(folder)
    found = Mixture.load(path)
    target = data.draw(st.sampled_from([path, path.with_suffix(".safetensors")]))
    whole = target.read_bytes()
    content = bytearray(target.read_bytes())
    kind = data.draw(st.sampled_from(["bit", "byte", "cut", "insert", "swap"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if kind == "bit":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "byte":
        content[at] = data.draw(st.integers(0, 255))
    elif kind == "cut":
        del content[at:]
    elif kind == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    else:
        other = data.draw(st.integers(0, len(content) - 1))
        content[at], content[other] = content[other], content[at]
    target.write_bytes(content)
    begun = time.monotonic()
    try:
        assert same(Mixture.load(path), found)
    except MixtureError as error:
        assert target.name in str(error)
    finally:
        target.write_bytes(whole)
    assert time.monotonic() - begun < 20


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    damage(data, tmp_path)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless_many_more(data: st.DataObject, tmp_path: Path) -> None:
    damage(data, tmp_path)


def test_a_flipped_digit_of_a_weight_is_not_believed(tmp_path: Path) -> None:
    path, found = saved(tmp_path)
    assert same(Mixture.load(path), found)
    text = path.read_text()
    for before, after in (('"seed": 3', '"seed": 7'), ('"weight": 0.1', '"weight": 0.3'), ('"all"', '"none"')):
        assert before in text
        path.write_text(text.replace(before, after, 1))
        with pytest.raises(MixtureError) as caught:
            Mixture.load(path)
        assert "has 1 fault" in str(caught.value) or str(caught.value) == (
            f"{path} was changed or damaged after it was written: the checksum differs.\n"
            '  Try:  take the line "sha256" out of the file, if it was you who changed it'
        )
    lines = text.replace('"seed": 3', '"seed": 7').splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith('  "sha256"')))
    assert Mixture.load(path).provenance.seed == 7
    assert json.loads(text) == json.loads(path.read_text()) | {
        "sha256": json.loads(text)["sha256"], "provenance": json.loads(text)["provenance"]
    }  # fmt: skip


def test_a_file_laid_out_anew_is_the_same(tmp_path: Path) -> None:
    path, found = saved(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert same(Mixture.load(path), found)


def test_files_written_before_there_was_a_checksum_open(tmp_path: Path) -> None:
    path, found = saved(tmp_path)
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content, indent=2))
    assert same(Mixture.load(path), found)


def rewritten(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    content = json.loads(path.read_text())
    content.pop("sha256")
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("change", "message"), [
    ({"num_maps": 10**9}, "num_maps = 1000000000: at most 64 is needed."),
    ({"num_maps": 60}, "stages lists 3, num_maps is 60"),
    ({"num_maps": 60, "stages": [], "maps": [{"id": "P61", "weight": 1}]}, "does not hold for 60 stages: P61"),
    ({"num_classes": 10**9}, "num_classes = 1000000000: at most 65536 is needed."),
    ({"num_maps": -1}, "num_maps = -1: at least 1 is needed."),
    ({"maps": [{"id": "P3", "weight": float("inf")}]}, "maps[0].weight = inf: a finite number is needed."),
    ({"maps": [{"id": "P3", "weight": float("nan")}]}, "maps[0].weight = nan: a finite number is needed."),
    ({"maps": [{"id": "P3", "weight": 1e300}]}, "maps[0].weight = 1e+300: at most 1e+30 is needed."),
    ({"maps": [{"id": "P3", "weight": 10**400}]}, "maps[0].weight = 1000"),
    ({"maps": [{"id": "P3", "weight": 1}] * 2}, "maps are listed twice"),
    ({"maps": []}, "maps = []"),
    ({"maps": [{"id": "P3", "weight": 1}] * 20_000}, "maps are listed twice"),
    ({"maps": ["x" * 10**6] * 3}, "… (1000002 characters): a table is needed."),
    ({"maps": [{"id": name, "weight": 1} for name in ("P4", "add(2,1)", "add(1,1)", "add(1)", "add(1,2", "P03", "")]},
     "that the space does not hold for 3 stages: P4, add(2,1), add(1,1), add(1), add(1,2, P03, "),
    ({"operators_sha256": ""}, "operators_sha256 = ''"),
    ({"operators_sha256": "../../etc/passwd"}, "operators_sha256 = '../../etc/passwd'"),
    ({"version": 0}, "version = 0"),
    ({"format": "other"}, 'it lacks "format": "lomix-mixture"'),
    ({"script": "<script>"}, "script: unknown."),
])  # fmt: skip
def test_absurd_values_are_faults(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path, _ = saved(tmp_path)
    rewritten(path, lambda content: content.update(change))
    begun = time.monotonic()
    with pytest.raises(MixtureError) as caught:
        Mixture.load(path)
    assert message in str(caught.value)
    assert time.monotonic() - begun < 5
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("space", [
    {"operator": [{"name": "add", "sizes": [60]}]},
    {"operator": [{"name": "nothing"}]},
    {"include": ["*"] * 100_000, "operator": [{"name": "add"}]},
    {"originals": [10**9]},
    {"budget": 10**30, "operator": [{"name": "add"}]},
])  # fmt: skip
def test_absurd_spaces_are_faults_or_answered_soon(tmp_path: Path, space: dict[str, object]) -> None:
    path, _ = saved(tmp_path)
    change = {"num_maps": 50, "stages": [], "maps": [{"id": "P1", "weight": 1}], "operators_sha256": None}
    rewritten(path, lambda content: content.update(change | {"space": space}))
    begun = time.monotonic()
    try:
        assert Mixture.load(path).weights == {"P1": 1.0}
    except MixtureError as error:
        assert "mixture.json" in str(error)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("text", [
    "[" * 100_000 + "]" * 100_000,
    '{"format": "lomix-mixture", "maps": ' + "[" * 500 + "]" * 500 + "}",
    '{"format": "lomix-mixture", "version": ' + "9" * 5000 + "}",
    '{"format": ["lomix-mixture"]}',
    "null", "", "\ufeff{}", '"\\ud800"', '{"format": "lomix-mixture", "weighting": "\\ud800"}',
])  # fmt: skip
def test_json_that_is_no_mixture(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mixture.json"
    path.write_text(text)
    with pytest.raises(MixtureError, match=r"mixture\.json"):
        Mixture.load(path)


def test_files_too_large_and_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "mixture.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no space
    with pytest.raises(MixtureError, match="has more than 64 MiB; no such file is so large"):
        Mixture.load(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MixtureError, match="a pipe or device, not a file"):
        Mixture.load(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(MixtureError, match="a pipe or device, not a file"):
        Mixture.load(path)
    for wrong in (tmp_path, tmp_path / "none.json", "a\0b", "x" * 5000):
        with pytest.raises(MixtureError, match="cannot be read"):
            Mixture.load(wrong)


def test_many_maps_are_read_without_going_through_all(tmp_path: Path) -> None:
    """Of 2⁴⁰ maps three: told from their names."""
    space = SearchSpace(operator=(OperatorRule(name="add"), OperatorRule(name="concat", sizes=(2,))))
    ids = ["P40", "add(1,39,40)", "concat(3,40)"]
    maps = tuple(MapWeight(id=name, weight=1.0) for name in ids)
    found = Mixture(space=space, num_classes=2, num_maps=40, weighting="fixed", maps=maps)
    found.save(tmp_path / "mixture.json")
    again = Mixture.load(tmp_path / "mixture.json")
    assert again.prune(top=2).weights.keys() == {"P40", "add(1,39,40)"}
    assert MixtureLoss.from_mixture(again).map_ids == tuple(ids)


# -- operators' parameters ---------------------------------------------------------------------------------------------


def with_tensors(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the operators' parameters of a saved mixture, and the checksum with them."""
    tensors = dict(Mixture.load(path).operators)
    change(tensors)
    content = packed(tensors)
    path.with_suffix(".safetensors").write_bytes(content)
    rewritten(path, lambda said: said.update(operators_sha256=hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t["concat(1,2).weight"].view(-1)[0:1].fill_(math.nan), "concat(1,2).weight: values that are not finite"),
    (lambda t: t["attention[2].bias"].fill_(-math.inf), "attention[2].bias: values that are not finite"),
    (lambda t: t.update({"concat(1,2).weight": torch.zeros(4, 9)}),
     "concat(1,2).weight: shape (4, 9), its operator has (4, 8)"),
    (lambda t: t.update({"concat(7,8).bias": torch.zeros(1)}), "concat(7,8).bias: no operator of this mixture has it"),
])  # fmt: skip
def test_operator_parameters_that_do_not_fit(tmp_path: Path, change: Callable[..., object], message: str) -> None:
    path, _ = saved(tmp_path)
    with_tensors(path, change)
    with pytest.raises(MixtureError) as caught:
        Mixture.load(path)
    assert str(caught.value) == (
        f"{path.with_suffix('.safetensors')} holds operator parameters that do not fit the mixture.\n"
        f"  Seen: {message}\n"
        '  Try:  take the lines "operators_sha256" and "sha256" out of mixture.json: it is read without parameters'
    )
    said = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: value for key, value in said.items() if key not in ("operators_sha256", "sha256")})
    )
    MixtureLoss.from_mixture(Mixture.load(path))


def test_missing_operator_parameters_are_named_where_they_are_needed(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    with_tensors(path, lambda t: t.pop("concat(1,2).bias"))
    found = Mixture.load(path)
    MixtureLoss.from_mixture(found)  # begins with new ones
    with pytest.raises(MixtureError) as caught:
        MixtureLoss.from_mixture(found, trained_operators=True)
    assert str(caught.value) == (
        f"{path} lacks parameters of 1 of 12 that its operators have.\n"
        "  Seen: concat(1,2).bias\n"
        "  Try:  MixtureLoss.from_mixture(mixture)  # begins with new ones"
    )


def test_other_things_than_safetensors(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    tensors = path.with_suffix(".safetensors")
    for content in (b"", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}" * 3, b"PK\x03\x04pickle"):
        tensors.write_bytes(content)
        rewritten_sum = hashlib.sha256(content).hexdigest()
        saved_text = path.read_text()
        content_said = json.loads(saved_text) | {"operators_sha256": rewritten_sum, "sha256": None}
        path.write_text(json.dumps(content_said))
        with pytest.raises(MixtureError, match=r"mixture\.safetensors"):
            Mixture.load(path)
    tensors.unlink()
    os.mkfifo(tensors)
    with pytest.raises(MixtureError, match=r"mixture\.safetensors cannot be read"):
        Mixture.load(path)


def test_the_parameters_stand_beside_the_file_and_are_what_its_checksum_says(tmp_path: Path) -> None:
    """The JSON names no file. A link that leads elsewhere, as in download caches, gives the right bytes or none."""
    path, found = saved(tmp_path / "a")
    tensors = path.with_suffix(".safetensors")
    elsewhere = tmp_path / "blob"
    tensors.rename(elsewhere)
    tensors.symlink_to(elsewhere)
    assert same(Mixture.load(path), found)
    elsewhere.write_bytes(packed({"concat(1,2).bias": torch.zeros(4)}))
    with pytest.raises(MixtureError, match="the checksums differ"):
        Mixture.load(path)
    Mixture.load(saved(tmp_path / "b")[0]).save(path)  # writes in place of the link, not through it
    assert not tensors.is_symlink()
    assert len(elsewhere.read_bytes()) < 200


def test_it_is_not_saved_over_its_own_parameters(mixture: Mixture, tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match=r'Try:  mixture\.save\(".*mixture\.json"\)'):
        mixture.save(tmp_path / "mixture.safetensors")
