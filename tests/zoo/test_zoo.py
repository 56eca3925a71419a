"""A few small and diverse models of the zoo, checked in full. All of them: `python -m tests.zoo`."""

import re
from functools import partial

import pytest
import torch
from torch import nn

import surgery
from surgery.modules.inputs import Inputs
from tests.zoo import failures, report, thirdparty_models, timm_models, torchvision_models, transformers_models
from tests.zoo.check import check
from tests.zoo.entry import Entry, cast, listed
from tests.zoo.outputs import with_lines
from tests.zoo.recipe import floats, given, ints, new
from tests.zoo.record import Failure, Record, main_reasons, restored
from tests.zoo.runner import dump, load, load_versions
from tests.zoo.thirdparty import RECIPES

BUILD = {
    "torchvision": torchvision_models.classification,
    "timm": timm_models.build,
    "transformers": transformers_models.build,
    "thirdparty": thirdparty_models.build,
}
SMALL = """
    torchvision/squeezenet1_1 torchvision/shufflenet_v2_x0_5 timm/resnet10t transformers/bert transformers/albert
    transformers/gpt2 transformers/llama transformers/opt transformers/vit transformers/convnext
    thirdparty/vit_pytorch/vit thirdparty/x_transformers/llama thirdparty/asteroid/conv_tasnet thirdparty/rtdl/resnet
""".split()


@pytest.mark.parametrize("key", SMALL)
def test_passes(key: str) -> None:
    suite, _, name = key.partition("/")
    package = name.partition("/")[0] if suite == "thirdparty" else suite
    pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")
    record = check(Entry(suite, name, partial(BUILD[suite], name)))
    assert not record.failures
    assert record.elastic is not None and record.elastic > 0.5


def test_a_failure_keeps_its_stage_and_reason() -> None:
    def build() -> None:
        raise RuntimeError("no weights at 'model.layers.3'")

    record = check(Entry("timm", "broken", build))  # type: ignore[arg-type]
    assert not record.passed
    assert record.failures == [Failure("build", "RuntimeError", "no weights at 'model.layers.3'", "")]


def test_records_survive_a_file(tmp_path) -> None:
    failure = Failure("half", "ProofError", "output differs by 3.1e-02", "surgery/a.py:1")
    record = Record("timm", "x", failures=[failure])
    dump(tmp_path / "coverage.json", [record], {"torch": "2"})
    assert load(tmp_path / "coverage.json") == {"timm/x": record}
    assert restored(record.plain()) == record
    assert "0/1" in report.page([record], {"torch": "2"})
    assert "1 models of the lists: timm/y." in report.page([record], {"torch": "2"}, ["timm/y"])


def test_what_fixes_a_weakly_elastic_model_names_its_lines() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    reasons = main_reasons(surgery.inspect(model, torch.ones(2, 3)))
    named = with_lines(reasons, model, Inputs((torch.ones(2, 3),)))
    assert len(named) == 2  # the bias, and the weight, which meets the input as well
    assert all(re.search(r"it is an output of the model \(\w+\.py:\d+\)", reason.reason) for reason in named)


def test_failures_are_grouped_without_what_is_particular() -> None:
    messages = ("size of a.b.weight is 3", "size of c.weight is 17")
    records = [Record("timm", m, failures=[Failure("half", "ProofError", m, "here")]) for m in messages]
    assert len(failures.grouped(records)) == 1
    assert "2 x ProofError: size of … is #" in failures.listing(records)


def test_lists_name_models() -> None:
    for suite in BUILD:
        names = listed(f"{suite}.txt")
        assert len(names) > 4 and len(set(names)) == len(names)


def test_every_model_of_other_packages_has_a_recipe() -> None:
    names = [entry.name for entry in thirdparty_models.entries()]
    assert set(names) == set(RECIPES)
    assert len(names) >= 100 and len(thirdparty_models.packages()) >= 25


def test_a_recipe_imports_nothing_until_it_is_made() -> None:
    path = "collections:OrderedDict.fromkeys"
    made = new(path, [new("builtins:int", "3"), 4])
    assert list(made()) == [3, 4]
    run = given([floats(2)], {"mask": ints(5, 3)}, 7, x=floats(1))(0)
    assert run.args[0][0].shape == (2,) and run.args[1]["mask"].shape == (3,) and run.args[2] == 7
    assert torch.equal(run.kwargs["x"], given(x=floats(1))(0).kwargs["x"])


def test_versions_of_an_earlier_run_are_kept(tmp_path) -> None:
    assert load_versions(tmp_path / "coverage.json") == {}
    dump(tmp_path / "coverage.json", [], {"torch": "2"})
    assert load_versions(tmp_path / "coverage.json") == {"torch": "2"}


def test_a_cast_keeps_complex_numbers_complex() -> None:
    model = nn.Module()
    model.w, model.c = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.complex64))
    model.register_buffer("i", torch.arange(2))
    cast(model, torch.float64)
    assert [t.dtype for t in model.state_dict().values()] == [torch.float64, torch.complex128, torch.int64]
