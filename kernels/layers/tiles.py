"""Tiles: how many sums of a product stay in registers, by hand.

A tile is a few rows of a batch, or pixels, by a few outputs. Each pair of a row and an output takes
as many registers as sums run side by side (`kernels.layers.products.n_sums`). The other registers
hold weights and inputs on their way. Tiles are balanced: 6 rows are split 3 + 3, not 5 + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.devices.targets import Target
from kernels.layers.images import Images, Packs
from refbnn.layers.images.windows import Pair


def balanced(n: int, most: int) -> int:
    """Size of tiles that are at most so large, as few as n takes, and of like sizes."""
    return -(-n // -(-n // max(1, most)))


def of_single_sums(n: int, registers: int) -> int:
    """Rows or columns of one tile, a register each: at most five eighths of the registers."""
    return balanced(n, registers * 5 // 8)


def of_rows(
    batch: int, n_packs: int, sums: int, target: Target, halves: int = 0
) -> tuple[int, int]:
    """Rows and packs of one tile, each pair of which takes `sums` registers.

    Of a weight, `halves` numbers are in half precision.

    On x86-64 a tile has five rows of known inputs or three of random ones, and as many packs as
    fill five eighths of the registers. The other registers hold weights and inputs on their way;
    from three quarters on LLVM begins to spill. (At batches 1 to 256 with AVX-512 most often within
    3 % of the fastest of all tiles to 10 × 8, always within 20 %.) On Arm see `of_rows_by_lanes`.
    """
    if target.is_arm:
        return of_rows_by_lanes(batch, n_packs, sums, target, halves)
    rows = balanced(batch, 10 // sums)
    return rows, balanced(n_packs, max(1, target.registers * 5 // 8 // (sums * rows)))


def of_rows_by_lanes(
    batch: int, n_packs: int, sums: int, target: Target, halves: int = 0
) -> tuple[int, int]:
    """Rows and packs of one tile where a multiply-add takes one operand from any lane (NEON).

    A step of the loop then covers as many inputs as there are lanes, four. The registers hold
    sums·rows·packs sums, sums·rows vectors of inputs (m, v, v + m²), and five weights on their way.
    Of the tiles that fit, the best has the fewest instructions beside multiply-adds. One step of
    one tile has

        4 packs         loads of µ and σ² for four inputs, two vectors at once
        4 packs         squares of µ, for random inputs
        4 halves·packs  conversions from half precision
        sums·rows       loads of inputs (LLVM sometimes loads two vectors at once)
        5               instructions of the loop itself

    With more than 8 packs two vectors are seldom loaded at once, because such a load reaches no
    further than 64 vectors. (Counted on the emulated A72 for 784→100 and 100→100 at batches 1 and
    10, no other tile had 2 % fewer instructions.)

    With conversions, LLVM spills from five packs on where a loop follows a list of inputs
    (`kernels.program.zeros`): a 784→100 of a digit executes 47,000 instructions in tiles of nine
    packs, 40,000 of five and 31,000 of four, both numbers of a weight in half precision.

    A core that issues in order waits for its loads: a load of two vectors takes it four cycles, and
    to load ahead needs three registers more. (By llvm-mca's model of the A53, 1.23 cycles a product
    in place of 1.46 at 784→100 and batch 10, 2.4 in place of 3.3 at 100→100.)
    """
    pair, waiting = (4, 8) if target.in_order else (1, 5)

    def others(tile: tuple[int, int]) -> int:
        rows, packs = tile
        n_rows, n_columns = -(-batch // rows), -(-n_packs // packs)  # tiles
        weights = n_rows * n_packs * (4 * pair + (4 if sums == 3 else 0) + 4 * halves)
        return weights + n_columns * batch * sums + n_rows * n_columns * 5

    fitting = (
        (balanced(batch, rows), balanced(n_packs, packs))
        for rows in range(1, min(batch, target.registers) + 1)
        for packs in range(1, min(4 if halves else 8, n_packs) + 1)
        if sums * rows * (packs + 1) + waiting <= target.registers
    )
    return min(fitting, key=others)


def of_images(layout: Images, groups: int, sums: int, target: Target) -> dict[str, int]:
    """Channels, rows and columns of one tile in vectors.

    Vectors of channels fill five eighths of the registers; the others hold weights and inputs on
    their way. x86 multiplies with a number in memory in one instruction, so a second pack that
    shares the number gains nothing. NEON has to load it, and a second pack saves half of these
    loads.

    Vectors of pixels fill three quarters, since weights come from memory, and two columns share
    them.

    (LeNet-5 with AVX-512, and with registers of 8 and 4 lanes on the same processor: within 6 % of
    the fastest of some ten tiles.)

    Where a multiply-add takes one operand from any lane, see `of_images_by_lanes`.

    Parameters
    ----------
    layout : Planes or Packs
        Layout of the outputs.
    groups, sums : int
    target : Target
    """
    _, rows, columns = layout.shape
    if isinstance(layout, Packs):
        most = target.registers * 5 // 8 // sums
        channels = balanced(layout.packs, 2 if target.lanes == 4 else 1)
        across = balanced(columns, most // channels)
    else:
        n_channels, columns = layout.channels // groups, layout.pitch // layout.lanes
        most = target.registers * 3 // 4 // sums
        across = balanced(columns, 2)
        channels = balanced(n_channels, most // across)
    # Where a row is less than a tile, several rows.
    down = balanced(rows, most // (channels * across)) if across == columns else 1
    return {"channels": channels, "rows": down, "columns": across}


def of_images_by_lanes(
    layout: Images, sums: int, target: Target, shared: str, kernel: Pair, stride: Pair
) -> dict[str, int]:
    """Channels, rows and columns where a multiply-add takes one operand from any lane (NEON).

    Of the tiles that fit the registers, the best has the fewest instructions beside multiply-adds.
    (Counted on the emulated A72 for nine convolutions at some six tiles each, it is the best of
    them, or within 8 % of that.)

    Parameters
    ----------
    layout : Planes or Packs
        Layout of the outputs.
    sums : int
    target : Target
    shared : {"columns", "channels", "weights"}
        Result of `kernels.layers.conv2d.shared_vectors`.
    kernel, stride : (int, int)
    """
    lanes = target.lanes
    _, rows, columns = layout.shape
    if shared == "weights":
        n, columns = layout.channels, -(-columns // lanes)
    else:
        n = -(-layout.channels // lanes)
    work = _ByLanes(n, rows, columns, sums, lanes, shared, kernel[1], stride[1])
    sizes = [range(1, min(n, most) + 1) for n, most in ((n, 8), (rows, 4), (columns, 12))]
    tiles = ((p, d, r) for p in sizes[0] for d in sizes[1] for r in sizes[2])
    fitting = [tile for tile in tiles if work.fits(*tile, target.registers)]
    channels, down, across = min(fitting, key=lambda tile: work.overhead(*tile), default=(1, 1, 1))
    return {"channels": channels, "rows": down, "columns": across}


@dataclass(frozen=True)
class _ByLanes:
    """A convolution whose tiles `of_images_by_lanes` compares.

    A tile has p channels or packs, d rows, and r columns or vectors of them.

    Parameters
    ----------
    channels, rows, columns : int
        Extents in the units of p, d and r.
    sums, lanes : int
    shared : str
    length, stride : int
        Columns of the kernel, L, and their stride, t.
    """

    channels: int
    rows: int
    columns: int
    sums: int
    lanes: int
    shared: str
    length: int
    stride: int

    def vectors(self, r: int) -> int:
        """Vectors of inputs h for one row of a tile: r, or (t(r − 1) + L)/lanes for "columns"."""
        if self.shared != "columns":
            return r
        return -(-(self.stride * (r - 1) + self.length) // self.lanes)

    def fits(self, p: int, d: int, r: int, registers: int) -> bool:
        """Whether the registers hold a tile.

        They hold sums·p·d·r sums, sums·d·h vectors of inputs (m, v, v + m²), and five weights on
        their way, or four where weights are shared. In that case a tile has one row: two would
        share inputs, which LLVM then keeps in registers that are wanted for sums. And p divides the
        channels, and r above 2 the columns: a smaller last tile would leave its sums in memory.
        """
        taken = self.sums * p * d * r + self.sums * d * self.vectors(r)
        if self.shared != "weights":
            return taken + 5 <= registers
        whole = d == 1 and self.channels % p == 0 and (r <= 2 or self.columns % r == 0)
        return whole and taken + 4 <= registers

    def overhead(self, p: int, d: int, r: int) -> float:
        """Instructions of all tiles beside multiply-adds, in one row of the kernel and a channel.

        One tile has w loads of µ and σ², two vectors at once; w squares of µ, for random inputs;
        sums·d·q loads of inputs; and s instructions of the loop itself. By what is shared, on
        average over the channels of a pack,

            "columns"       w = pL,  q = h,              s = 1
            "channels"      w = pL,  q = rL/(2 lanes),   s = (3 + 2p)L/lanes
            "weights"       w = pL/lanes,  q = rL,       s = 5
        """
        length, lanes = self.length, self.lanes
        weights, loads, loop = {
            "columns": (p * length, 1.0, 1.0),
            "channels": (p * length, length / lanes / 2, (3 + 2 * p) * length / lanes),
            "weights": (p * length / lanes, length, 5.0),
        }[self.shared]
        n_tiles = -(-self.channels // p) * -(-self.rows // d) * -(-self.columns // r)
        inputs = self.sums * d * self.vectors(r) * loads
        return n_tiles * (weights * (2 if self.sums == 3 else 1) + inputs + loop)
