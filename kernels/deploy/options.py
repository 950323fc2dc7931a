"""How a network is compiled for a library, and the same kernel that Python drives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kernels import network
from kernels.devices import targets
from kernels.devices.targets import Target
from kernels.program.compiled import CompiledNetwork
from refbnn.network.network import Network


@dataclass(frozen=True)
class Options:
    """How a network is compiled; as in `kernels.compile_network`, but for `source`.

    Parameters
    ----------
    batch_size, target, schedule, form, records, method, constant_time
        As there.
    source : bool
        Write C source in place of a library.
    """

    batch_size: int = 1
    target: str = "host"
    schedule: str = "hand"
    form: str = "variance"
    records: str | Path | None = None
    source: bool = False
    method: str = "pfp"
    constant_time: bool = False

    @property
    def cpu(self) -> Target:
        """The processor."""
        return targets.target(self.target)

    @property
    def device(self) -> str:
        """Where Python drives the kernel."""
        return "local" if self.target == "host" else "emulated"

    def drive(self, net: Network) -> CompiledNetwork:
        """Compile the kernel that Python drives."""
        return network.compile_network(
            net,
            self.batch_size,
            self.target,
            self.schedule,
            self.form,
            self.records,
            self.device,
            self.method,
            self.constant_time,
        )
