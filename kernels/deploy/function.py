"""Compile a program to one plain C function, `void NAME(float *, ...)`, without TVM's runtime.

TVM's own functions unpack their arguments from arrays of tagged values, check each, ask a runtime
for temporary memory, which comes from a heap, and leave errors in that runtime. The passes that do
so are left out here. Every array is a pointer: inputs, weights and outputs as the program has them,
then `work`, each array of temporary memory that would have come from a heap. The caller knows all
sizes, and that no two arrays overlap. All other passes are TVM's, in their order, so that the
arithmetic is the same.

C source, for processors that LLVM does not know
------------------------------------------------
Vectors become plain loops, which a C compiler may turn into vectors again. That compiler decides
which products and sums become one operation, except where it must be one: `fmaf`. TVM's C printer
writes seven digits of a constant, where float32 needs nine, and infinity by a name that C does not
have. So each constant that this would change is printed as a code, which is then replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import register_op_attr
from tvm.tirx.op import register_intrin_lowering

from kernels.devices.linker import object_file
from kernels.devices.targets import Target
from kernels.program import kernel, zeros
from kernels.program.program import Program

# Bytes below which TVM leaves temporary memory on the stack (kMaxStackAlloca), most often to become
# registers. Larger arrays would come from its runtime.
_ON_STACK = 1024
_PACKING = ("tirx.MakePackedAPI", "tirx.FP8StorageLegalize", "tirx.BF16StorageLegalize")

# StorageRewrite would let arrays of float and int32_t share memory, which C does not allow.
_PASSES_FOR_C = {
    **kernel.PASSES,
    "tirx.disable_vectorize": True,
    "tirx.disable_storage_rewrite": True,
}

_FMA, _FMAF = "tirx.fma", "refbnn.fmaf"
_PURE = 0  # tvm::tirx::CallEffectKind::kPure
register_op_attr(_FMAF, "TCallEffectKind", _PURE)


def _call_in_c(operation: str, name: Callable[[tirx.Call], str]) -> None:
    """Lower an operation to a C function: one of math.h, or of the file's beginning."""

    def lowered(call: tirx.Call) -> tirx.Call:
        return tirx.call_pure_extern(call.ty, name(call), *call.args)

    register_intrin_lowering(operation, target="c", f=lowered)


_call_in_c(_FMAF, lambda _: "fmaf")
_call_in_c("tirx.sqrt", lambda _: "sqrtf")
_call_in_c("tirx.floor", lambda _: "floorf")
_call_in_c("tirx.fabs", lambda _: "fabsf")
_REINTERPRET = {"float32": "float_of", "uint32": "bits_of", "int32": "signed_bits_of"}
_call_in_c("tirx.reinterpret", lambda call: _REINTERPRET[str(call.ty.dtype)])


@dataclass(frozen=True)
class Function:
    """A C function.

    Parameters
    ----------
    code : bytes or str
        Object file, or C source of the function alone.
    work : tuple of (str, int)
        C type and length of each array of temporary memory; these are the last arguments.
    """

    code: bytes | str
    work: tuple[tuple[str, int], ...]


def compiled(
    program: Program, name: str, schedule: str, folder: str | Path | None, source: bool
) -> Function:
    """Compile a program to a function of that name, for its target or as C source.

    Parameters
    ----------
    schedule, folder
        As in `kernels.program.kernel.lowered`, whose errors it raises.
    source : bool
        Write C, in which subnormal numbers count as any other (`kernels.program.subnormals`).
    """
    if source:
        program.flush = False
    llvm = tvm.target.Target({"kind": "c"} if source else program.target.llvm)
    main = kernel.lowered(program, schedule, folder)["main"].with_attr("global_symbol", name)
    module = zeros.skipping(tvm.IRModule({name: main}), 1 if source else program.target.lanes)
    module = tirx.transform.BindTarget(llvm.with_host(llvm))(module)
    passes, finalize, _ = tirx.get_default_tir_pipeline(llvm)
    settings = _PASSES_FOR_C if source else kernel.passes(program.target, schedule)
    with tvm.transform.PassContext(config=settings, instruments=[_WithoutPacking()]):
        function, work = _with_pointers(passes(module)[name], _on_stack(program.target))
        module = tvm.IRModule({name: function})
        constants: dict[str, float] = {}
        if source:
            module = _for_c(tvm.IRModule({name: _without_shifts(function)}), constants)
        built = tvm.get_global_func(f"target.build.{llvm.kind.name}")(finalize()(module), llvm)
    if source:
        n_read = len(program.inputs) + len(program.weights)
        return Function(_text(built.inspect_source(), name, constants, n_read), work)
    return Function(object_file(tvm.runtime.Executable(built)), work)


@tvm.ir.instrument.pass_instrument
class _WithoutPacking:
    """Leave out the passes that make a function of TVM's runtime."""

    def should_run(self, _module, info) -> bool:
        return info.name not in _PACKING


def _on_stack(target: Target) -> int:
    """Bytes from which on a temporary array is the caller's.

    Arrays that fit into the vector registers may become registers: on the A72 no network executes
    more instructions than with 1024 bytes, and the stack of a LeNet-5 is half of what it was.
    """
    return min(_ON_STACK, 4 * target.lanes * target.registers)


def _with_pointers(
    function: tirx.PrimFunc, on_stack: int
) -> tuple[tirx.PrimFunc, tuple[tuple[str, int], ...]]:
    """Take pointers to arrays and large temporary ones; also C type and length of the latter."""
    pointers, work = [], []

    def argument(array) -> tirx.DeclBuffer:
        pointers.append(tirx.Var(array.name, tvm.ir.PointerType(array.ty.dtype)))
        return tirx.DeclBuffer(array, data=pointers[-1])

    def allocated(statement: tirx.AllocBuffer) -> tirx.Stmt:
        number, _, lanes = str(statement.buffer.ty.dtype.dtype).partition("x")
        length = prod(int(n) for n in statement.buffer.ty.shape) * int(lanes or 1)
        if length * np.dtype(number).itemsize < on_stack:
            return statement
        work.append((c_type_of(number), length))
        return argument(statement.buffer)

    parameters = [argument(array) for array in function.params]
    body = tvm_ffi.structural_map(function.body, (tirx.AllocBuffer, allocated))
    plain = tirx.PrimFunc(pointers, tirx.SeqStmt([*parameters, body]), None, None)
    for attribute in ("global_symbol", "target", "tirx.noalias"):
        plain = plain.with_attr(attribute, function.attrs[attribute])
    return plain, tuple(work)


def _without_shifts(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Replace shifts to the left by products: C does not define those of negative numbers.

    Kernels shift exponents, by constants, so that no product overflows.
    """

    def product(shift: tirx.LShift):
        return shift.a * tirx.const(1 << int(shift.b), shift.ty.dtype)

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.LShift, product)))


def _for_c(module: tvm.IRModule, constants: dict[str, float]) -> tvm.IRModule:
    """Replace fused operations by `fmaf`, and constants that TVM's printer would change by codes.

    Python can change a tree of TVM's only by way of JSON.

    Parameters
    ----------
    module : IRModule
    constants : dict
        Receives the constants by their codes.
    """
    tree = json.loads(tvm.ir.save_json(module))
    for node in tree["nodes"]:
        if node == {"type": "ir.Op", "data": _FMA}:
            node["data"] = _FMAF
        elif node["type"] == "ir.FloatImm":
            value = float(np.float32(node["data"]["value"]))
            if not np.isfinite(value) or float(f"{value:e}") != value:
                code = f"{(1_000_000 + len(constants)) / 1e6:e}".removesuffix("e+00") + "e+37"
                constants[f"{code}f"] = value
                node["data"]["value"] = float(code)
    return tvm.ir.load_json(json.dumps(tree))


def _text(source: str, name: str, constants: Mapping[str, float], n_read: int) -> str:
    """Cut the function out of TVM's source, and write its constants in full.

    The arrays of the first `n_read` parameters are only read.
    """
    start = source.rindex(f"TVM_DLL void {name}(")
    signature, brace, body = source[start:].removeprefix("TVM_DLL ").partition(" {")
    signature = re.sub(r"\*\s*(\w)", r"*restrict \1", signature)
    signature = re.sub(r"(\w+\*restrict)", r"const \1", signature, count=n_read)
    body = re.sub(r"1\.\d{6}e\+37f", lambda code: _in_c(constants[code[0]]), body)
    return f"static {signature}{brace}{body}".rstrip() + "\n"


def c_type_of(dtype: object) -> str:
    """Name a type of TVM's in C."""
    return "float" if str(dtype) == "float32" else f"{dtype}_t"


def item_bytes(c_type: str) -> int:
    """Count the bytes of one number of a C type that `c_type_of` names."""
    return 4 if c_type == "float" else np.dtype(c_type.removesuffix("_t")).itemsize


def _in_c(value: float) -> str:
    if np.isfinite(value):
        return f"{value.hex()}f"
    return "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
