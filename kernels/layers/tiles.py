"""Tiles: how much of a product stays in registers, by hand.

A tile is a few rows of a batch, or pixels, by a few outputs. Each pair of them takes as many
registers as sums run side by side (`kernels.layers.products.n_sums`); the rest of the registers
holds weights and inputs on their way. Tiles are balanced: 6 rows are split 3 + 3, not 5 + 1.
"""

from __future__ import annotations

from kernels.devices.targets import Target
from kernels.layers.images import Images, Packs
from refbnn.layers.images.windows import Pair


def _balanced(n: int, most: int) -> int:
    return -(-n // -(-n // max(1, most)))


def of_single_sums(n: int, registers: int) -> int:
    """Rows or columns of one tile, a register each: five eighths of the registers, in balance."""
    return _balanced(n, registers * 5 // 8)


def of_rows(batch: int, n_packs: int, sums: int, target: Target) -> tuple[int, int]:
    """Rows and packs of one tile, each pair of which takes `sums` registers.

    On x86-64 five rows of known inputs or three of random ones, and as many packs as fill five
    eighths of the registers; the rest holds weights and inputs on their way, and from three
    quarters on LLVM begins to spill. (At batches 1 to 256 with AVX-512 most often within 3 % of
    the fastest of all tiles to 10 × 8, always within 20 %.) On Arm as
    `of_rows_by_lanes` says.
    """
    if target.is_arm:
        return of_rows_by_lanes(batch, n_packs, sums, target)
    rows = _balanced(batch, 10 // sums)
    return rows, _balanced(n_packs, max(1, target.registers * 5 // 8 // (sums * rows)))


def of_rows_by_lanes(batch: int, n_packs: int, sums: int, target: Target) -> tuple[int, int]:
    """Rows and packs of one tile where a multiply-add takes one operand from any lane (NEON).

    A step of the loop then covers as many inputs as there are lanes, four. In registers are
    sums·rows·packs sums, sums·rows vectors of inputs (m, v, v + m²), and five for weights on their
    way. Of the tiles that fit, the one with the fewest instructions beside multiply-adds. Such are,
    in one step of one tile,

        4 packs         loads of µ and σ² for four inputs, two vectors at once
        4 packs         squares of µ, for random inputs
        sums·rows       loads of inputs (some are of two vectors at once; this LLVM decides)
        5               the loop itself

    With more than 8 packs two vectors are seldom loaded at once: such a load reaches no further
    than 64 vectors. (Counted on the emulated A72 for 784→100 and 100→100 at batches 1 and 10, no
    other tile had 2 % fewer.)

    A core that issues in order waits for what it loads: a load of two vectors takes it four cycles,
    and to load ahead needs three registers more. (By llvm-mca's model of the A53, 1.23 cycles a
    product in place of 1.46 at 784→100 and batch 10, 2.4 in place of 3.3 at 100→100.)
    """
    pair, waiting = (4, 8) if target.in_order else (1, 5)

    def others(tile: tuple[int, int]) -> int:
        rows, packs = tile
        n_rows, n_columns = -(-batch // rows), -(-n_packs // packs)  # tiles
        weights = n_rows * n_packs * (4 * pair + (4 if sums == 3 else 0))
        return weights + n_columns * batch * sums + n_rows * n_columns * 5

    fitting = (
        (_balanced(batch, rows), _balanced(n_packs, packs))
        for rows in range(1, min(batch, target.registers) + 1)
        for packs in range(1, min(8, n_packs) + 1)
        if sums * rows * (packs + 1) + waiting <= target.registers
    )
    return min(fitting, key=others)


def of_images(layout: Images, groups: int, sums: int, target: Target) -> dict[str, int]:
    """Channels, rows and columns of one tile in vectors.

    Vectors of channels: five eighths of the registers, the rest for weights and inputs on their
    way. x86 multiplies with a number in memory in one instruction, so nothing is gained by a
    second pack that shares it; NEON has to load it, and a second pack saves half of these loads.

    Vectors of pixels: three quarters, since weights come from memory, and two columns share them.

    (LeNet-5 with AVX-512, and with registers of 8 and 4 lanes on the same processor: within 6 % of
    the fastest of some ten tiles.)

    Where a multiply-add takes one operand from any lane, see `of_images_by_lanes`.

    Parameters
    ----------
    layout : Planes or Packs
        Of the outputs.
    groups, sums : int
    target : Target
    """
    _, rows, columns = layout.shape
    if isinstance(layout, Packs):
        most = target.registers * 5 // 8 // sums
        channels = _balanced(layout.packs, 2 if target.lanes == 4 else 1)
        across = _balanced(columns, most // channels)
    else:
        n_channels, columns = layout.channels // groups, layout.pitch // layout.lanes
        most = target.registers * 3 // 4 // sums
        across = _balanced(columns, 2)
        channels = _balanced(n_channels, most // across)
    # Where a row is less than a tile, several rows.
    down = _balanced(rows, most // (channels * across)) if across == columns else 1
    return {"channels": channels, "rows": down, "columns": across}


def of_images_by_lanes(
    layout: Images, sums: int, target: Target, shared: str, kernel: Pair, stride: Pair
) -> dict[str, int]:
    """Channels, rows and columns where a multiply-add takes one operand from any lane (NEON).

    In registers are sums·p·d·r sums, of p channels or packs, d rows and r columns or vectors of
    them, and sums·d·h vectors of inputs (m, v, v + m²); and five for weights on their way, or four
    where these are shared. Of the tiles that fit, the one with the fewest instructions beside
    multiply-adds. Such are, in one row of the kernel and a channel,

        w               loads of µ and σ², two vectors at once
        w               squares of µ, for random inputs
        sums·d·q        loads of inputs
        s               the loop itself

    With L columns of the kernel and stride t, they are, by what is `shared`,

        "columns"       h = q = (t(r − 1) + L)/lanes rounded up, w = pL, s = 1
        "channels"      h = r, q = rL/(2 lanes), w = pL, s = (3 + 2p)L/lanes
        "weights"       h = r, q = rL, w = pL/lanes, s = 5

    on average over the channels of a pack. Where weights are shared, a tile is of one row: two
    would share inputs, which LLVM then keeps in registers that are wanted for sums. And p divides
    the channels, and r above 2 the columns: of a last tile with fewer, sums are left in memory.
    (Counted on the emulated A72 for nine convolutions at some six tiles each, it is the best of
    them, or within 8 % of that.)

    Parameters
    ----------
    layout : Planes or Packs
        Of the outputs.
    sums : int
    target : Target
    shared : {"columns", "channels", "weights"}
        As `kernels.layers.conv2d.shared_vectors` says.
    kernel, stride : (int, int)
    """
    lanes, length = target.lanes, kernel[1]
    _, rows, columns = layout.shape
    if shared == "weights":
        n, columns = layout.channels, -(-columns // lanes)
    else:
        n = -(-layout.channels // lanes)

    waiting = 4 if shared == "weights" else 5

    def held(r: int) -> int:
        return -(-(stride[1] * (r - 1) + length) // lanes) if shared == "columns" else r

    def fits(tile: tuple[int, int, int]) -> bool:
        p, d, r = tile
        whole = d == 1 and n % p == 0 and (r <= 2 or columns % r == 0)
        registers = sums * p * d * r + sums * d * held(r) + waiting
        return registers <= target.registers and (whole or shared != "weights")

    def others(tile: tuple[int, int, int]) -> float:
        p, d, r = tile
        weights, loads, loop = {
            "columns": (p * length, 1.0, 1.0),
            "channels": (p * length, length / lanes / 2, (3 + 2 * p) * length / lanes),
            "weights": (p * length / lanes, length, 5.0),
        }[shared]
        n_tiles = -(-n // p) * -(-rows // d) * -(-columns // r)
        return n_tiles * (weights * (2 if sums == 3 else 1) + sums * d * held(r) * loads + loop)

    sizes = [range(1, min(n, most) + 1) for n, most in ((n, 8), (rows, 4), (columns, 12))]
    tiles = ((p, d, r) for p in sizes[0] for d in sizes[1] for r in sizes[2])
    fitting = [tile for tile in tiles if fits(tile)]
    channels, down, across = min(fitting, key=others, default=(1, 1, 1))
    return {"channels": channels, "rows": down, "columns": across}
