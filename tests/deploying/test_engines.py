"""Small models in the engines that run them elsewhere: each gives what the model gives, as docs/deploying.md says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.deploying.models import MODELS, gap

Run = Callable[[nn.Module, torch.Tensor, Path], torch.Tensor]
# All of them compute in float32, in another order of sums.
TOLERANCE = 1e-5


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


def exported(small: nn.Module, x: torch.Tensor, folder: Path) -> torch.Tensor:
    torch.export.save(torch.export.export(small, (x,)), folder / "small.pt2")
    found: torch.Tensor = torch.export.load(folder / "small.pt2").module()(x)
    return found


def onnx(small: nn.Module, x: torch.Tensor, folder: Path) -> torch.Tensor:
    library("onnxscript")
    runtime = library("onnxruntime")
    torch.onnx.export(small, (x,), dynamo=True, verbose=False).save(folder / "small.onnx")
    session = runtime.InferenceSession(str(folder / "small.onnx"), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def openvino(small: nn.Module, x: torch.Tensor, folder: Path) -> torch.Tensor:
    ov = library("openvino")
    ov.save_model(ov.convert_model(torch.export.export(small, (x,))), folder / "small.xml", compress_to_fp16=False)
    full = {"INFERENCE_PRECISION_HINT": "f32"}  # some processors take bfloat16 otherwise
    return torch.from_numpy(ov.compile_model(folder / "small.xml", "CPU", full)(x.numpy())[0].copy())


def traced(small: nn.Module, x: torch.Tensor, folder: Path) -> torch.Tensor:
    torch.jit.trace(small, (x,)).save(str(folder / "small.ts"))
    found: torch.Tensor = torch.jit.load(str(folder / "small.ts"))(x)
    return found


def compiled(small: nn.Module, x: torch.Tensor, folder: Path) -> torch.Tensor:
    torch._dynamo.reset()
    found: torch.Tensor = torch.compile(small, fullgraph=True)(x)
    return found


def ahead_of_time(small: nn.Module, x: torch.Tensor, folder: Path) -> torch.Tensor:
    program = torch.export.export(small, (x,))
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "small.pt2"))
    found: torch.Tensor = torch._inductor.aoti_load_package(package)(x)
    return found


def executorch(small: nn.Module, x: torch.Tensor, folder: Path) -> torch.Tensor:
    exir, runtime = library("executorch.exir"), library("executorch.runtime")
    xnnpack = library("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    program = exir.to_edge_transform_and_lower(
        torch.export.export(small, (x,)), partitioner=[xnnpack.XnnpackPartitioner()]
    )
    (folder / "small.pte").write_bytes(program.to_executorch().buffer)
    method = runtime.Runtime.get().load_program(folder / "small.pte").load_method("forward")
    found: torch.Tensor = method.execute([x])[0]
    return found


QUICK: tuple[Run, ...] = (exported, traced)
SLOW: tuple[Run, ...] = (onnx, openvino, compiled, ahead_of_time, executorch)
ENGINES = [*QUICK, *(pytest.param(engine, marks=pytest.mark.slow) for engine in SLOW)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MODELS)
# the engines' own: they call parts of torch and of each other deprecated
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # that sizes of a trace are those of its inputs
def test_an_engine_gives_what_the_small_model_gives(name: str, engine: Run, tmp_path: Path) -> None:
    small, x = MODELS[name]()
    assert gap(engine(small, x, tmp_path), small, x) < TOLERANCE


def weights_int8() -> Any:
    return library("torchao.quantization").Int8WeightOnlyConfig()


def int8() -> Any:
    return library("torchao.quantization").Int8DynamicActivationInt8WeightConfig()


def weights_int4() -> Any:
    return library("torchao.quantization").IntxWeightOnlyConfig(weight_dtype=torch.int4)


# What rounding to 127 or 7 steps on each side of zero does, layer after layer, to outputs of a few layers.
QUANTISED = [(weights_int8, 0.02), (int8, 0.03), (weights_int4, 0.15)]


@pytest.mark.slow
@pytest.mark.parametrize("config, tolerance", QUANTISED)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_quantised_after_shrinking(name: str, config: Callable[[], Any], tolerance: float) -> None:
    small, x = MODELS[name]()
    quantised = copy.deepcopy(small)
    library("torchao.quantization").quantize_(quantised, config())
    assert 1e-6 < gap(quantised(x), small, x) < tolerance
    linear = [m for m in quantised.modules() if type(m) is nn.Linear]
    assert linear and all(type(m.weight.data) is not torch.Tensor for m in linear), "it is the weights that are rounded"
