"""Random candidates for calibration: reproducible, of all sizes, and known to the walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx
import pytest

from nas_edge import InvalidCandidate, Scope, SearchSpace, UserError
from nas_edge.config import make_config
from nas_edge.engine.calibration import any_candidates
from nas_edge.engine.candidates import PROBE_SHARE, RandomCandidates, noise_images, with_probes
from nas_edge.latency.graph import kernels_of
from nas_edge.plugins import Registry, load_plugins

from ..latency.optimised import ours, theirs


@pytest.fixture
def built_in(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("NAS_EDGE_LOAD_PLUGINS", "")
    load_plugins.cache_clear()
    return load_plugins()


@pytest.fixture
def candidates(tiny: Registry) -> RandomCandidates:
    """Two convolutions and a classifier, with no technique."""
    return any_candidates(make_config(None, {"space": "tiny", "target": "bench", "techniques": []}), tiny)


def sides(model: onnx.ModelProto) -> tuple[int, int]:
    """Channels and pixels of the input."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[1].dim_value, dims[2].dim_value


def test_the_same_index_gives_the_same_network(candidates: RandomCandidates, tiny: Registry) -> None:
    config = candidates.config
    again, other = any_candidates(config, tiny), any_candidates(config, tiny, seed=5)
    first = [candidates(i).SerializeToString() for i in range(4)]
    assert [again(i).SerializeToString() for i in range(4)] == first
    assert len(set(first)) == 4
    assert [other(i).SerializeToString() for i in range(4)] != first


def test_they_have_images_of_all_sizes(candidates: RandomCandidates) -> None:
    shapes = {sides(candidates(i)) for i in range(20)}
    assert {channels for channels, _ in shapes} == {1, 3}
    assert min(side for _, side in shapes) <= 16 and max(side for _, side in shapes) >= 128


def test_they_can_have_the_images_of_a_data_set(candidates: RandomCandidates) -> None:
    fixed = replace(candidates, data=noise_images(24, 1, 7, 0))
    models = [fixed(i) for i in range(4)]
    assert {sides(model) for model in models} == {(1, 24)}
    assert len({model.SerializeToString() for model in models}) == 4
    assert fixed.domain == "tiny1/1x24/" and candidates.domain == "tiny1/any/"


def test_the_domain_names_techniques_with_their_versions(built_in: Registry) -> None:
    config = make_config(None, {"target": "local", "techniques": ["prune", "quantize"]})
    versions = {name: built_in.techniques[name].version for name in ("prune", "quantize")}
    assert any_candidates(config, built_in).domain == (
        f"mobilenet{built_in.search_spaces['mobilenet'].version}/any/"
        f"prune{versions['prune']},quantize{versions['quantize']}"
    )


def test_names_that_nobody_registered_are_refused(built_in: Registry) -> None:
    with pytest.raises(UserError, match=r"search space.*'mobilnet'"):
        any_candidates(make_config(None, {"space": "mobilnet", "target": "local"}), built_in)


class Impossible(SearchSpace):
    """Nothing of it can be built."""

    name = "impossible"

    def suggest(self, scope: Scope) -> dict[str, Any]:
        return {"width": scope.suggest_int("width", 1, 9)}

    def build(self, params: Mapping[str, Any], *, in_channels: int, num_classes: int, resolution: int) -> Any:
        raise InvalidCandidate(f"width {params['width']} cannot be built")


def test_a_space_that_fits_no_image_is_an_invalid_candidate(candidates: RandomCandidates) -> None:
    candidates.registry.search_spaces["impossible"] = Impossible()
    broken = replace(candidates, space=Impossible())
    with pytest.raises(InvalidCandidate, match=r"40 random candidates could not be built: .*cannot be built"):
        broken(0)


def test_probes_are_mixed_in(candidates: RandomCandidates) -> None:
    models = [with_probes(candidates, i) for i in range(40)]
    probes = [model for model in models if model.graph.name == "probe"]
    assert 0.5 * PROBE_SHARE < len(probes) / 40 < 2 * PROBE_SHARE
    others = [i for i, model in enumerate(models) if model.graph.name != "probe"]
    assert models[others[0]].SerializeToString() == candidates(others[0]).SerializeToString()
    assert with_probes(candidates, 0).SerializeToString() == models[0].SerializeToString()


def test_real_candidates_are_walked_as_onnx_runtime_runs_them(built_in: Registry) -> None:
    """Of the main space with all techniques: convolutions, reorders and quantizers, one for one."""
    made = any_candidates(make_config(None, {"target": "local"}), built_in)
    models = [made(index) for index in range(10)]
    assert any(k.kind.startswith("int8.") for model in models for k in kernels_of(model).kernels)
    for model in models:
        assert ours(model) == theirs(model)


def test_noise_has_the_shape_that_was_asked_for() -> None:
    data = noise_images(24, 1, 7, 3)
    assert data.train.images.shape[1:] == (1, 24, 24) and len(data.classes) == 7
    assert (data.channels, data.resolution) == (1, 24)
    assert set(data.train.labels.tolist()) == set(range(7))
    assert (data.train.images == noise_images(24, 1, 7, 3).train.images).all()
    assert (data.train.images != noise_images(24, 1, 7, 4).train.images).any()
