"""``mj_step`` and ``mj_forward`` rebuilt from MuJoCo's stage functions, skipping the stages these models do not use.

Skipped stages: cameras, lights, sites (except after the last step), flexes, tendons, sensors, energies and timers. Our
own search finds the pairs of geoms, see ``contacts``.
"""

from __future__ import annotations

from numpy.typing import NDArray

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.jit import (
    call_boxes,
    call_two,
    load_f64,
    load_i32,
    load_i64,
    store_f64,
    store_i32,
    store_i64,
)

FRAME_SKIP = 5
LARGEST = 1e10  # mjMAXVAL


@kernel
def is_near(test: int, limit: int) -> bool:
    """Whether the bounding spheres of a pair of geoms touch, or a geom's sphere the other geom's plane.

    ``limit``: ``PAIR_LIMIT``, or ``PAIR_WIDE`` for spheres that are larger by the skin.
    """
    first, second, total = load_i64(test, at.PAIR_FIRST), load_i64(test, at.PAIR_SECOND), 0.0
    if load_i64(test, at.PAIR_KIND) == at.PLANE:
        matrix = load_i64(test, at.PAIR_MATRIX)
        for i in range(3):
            total += (load_f64(second, i) - load_f64(first, i)) * load_f64(matrix, 3 * i + 2)
    else:
        for i in range(3):
            difference = load_f64(first, i) - load_f64(second, i)
            total += difference * difference
    return not total > load_f64(test, limit)


@kernel
def is_outside(box: int, other: int, reach: int) -> bool:
    """Whether one geom's bounding sphere lies outside the other geom's box.

    ``reach``: ``BOX_REACH``, or ``BOX_WIDE`` for a sphere that is larger by the skin and a box that does not move.
    """
    bounds, center, matrix = (
        load_i64(box, at.BOX_AABB),
        load_i64(box, at.BOX_POS),
        load_i64(box, at.BOX_MAT),
    )
    point = load_i64(other, at.BOX_POS)
    x = load_f64(point, 0) - load_f64(center, 0)
    y = load_f64(point, 1) - load_f64(center, 1)
    z = load_f64(point, 2) - load_f64(center, 2)
    total = 0.0
    for i in range(3):
        local = (
            load_f64(matrix, i) * x + load_f64(matrix, i + 3) * y + load_f64(matrix, i + 6) * z
        )
        beyond = abs(local - load_f64(bounds, i)) - load_f64(bounds, i + 3)
        total += max(beyond, 0.0) ** 2
    return total > load_f64(box, reach)


@kernel
def boxes_touch(ctx: NDArray, box: int) -> bool:
    """Whether two geoms pass MuJoCo's box test. MuJoCo skips the test where each geom is its body's only one."""
    use, first, second = (
        load_i64(box, at.BOX_USED),
        box + 8 * at.BOX_FIRST,
        box + 8 * at.BOX_SECOND,
    )
    if use == at.BOXES_UNUSED:
        return True
    if is_outside(first, second, at.BOX_REACH) or is_outside(second, first, at.BOX_REACH):
        return False
    if use == at.BOXES_SPARED:
        return True
    touch = call_boxes(
        ctx[at.MJ_COLLIDEOBB],
        load_i64(first, at.BOX_AABB),
        load_i64(second, at.BOX_AABB),
        load_i64(first, at.BOX_POS),
        load_i64(first, at.BOX_MAT),
        load_i64(second, at.BOX_POS),
        load_i64(second, at.BOX_MAT),
        load_f64(box, at.BOX_MARGIN),
        0,
        0,
        0,
    )
    return touch != 0


@kernel
def is_reached(ctx: NDArray, tree: int) -> bool:
    """Whether MuJoCo's descent of two bodies' box trees reaches a pair of geoms.

    The boxes of nodes hold the geoms, but have other axes, so that one may be further away than the margin where the
    geom's own box is not.
    """
    products = ctx[at.PRODUCTS]
    initialize = products + 8 * (at.NUM_PRODUCTS + at.NUM_OFFSETS)
    nodes = load_i64(tree, at.TREE_NODES)
    store_i64(initialize, 0, 1)
    for place in range(load_i64(tree, at.TREE_COUNT)):
        touch = call_boxes(
            ctx[at.MJ_COLLIDEOBB],
            load_i64(nodes, 2 * place),
            load_i64(nodes, 2 * place + 1),
            load_i64(tree, at.TREE_POS1),
            load_i64(tree, at.TREE_MAT1),
            load_i64(tree, at.TREE_POS2),
            load_i64(tree, at.TREE_MAT2),
            load_f64(tree, at.TREE_MARGIN),
            products,
            products + 8 * at.NUM_PRODUCTS,
            initialize,
        )
        if touch == 0:
            return False
    return True


@kernel
def may_touch(ctx: NDArray, pair: int) -> bool:
    """Whether MuJoCo must search a pair for contacts."""
    return (
        is_near(ctx[at.PAIRS] + 8 * at.PAIR_SIZE * pair, at.PAIR_LIMIT)
        and boxes_touch(ctx, ctx[at.BOXES] + 8 * at.BOX_SIZE * pair)
        and is_reached(ctx, ctx[at.TREES] + 8 * at.TREE_SIZE * pair)
    )


@kernel
def forget_pairs(ctx: NDArray) -> None:
    """Invalidate the list of pairs, because another environment is loaded."""
    store_i64(ctx[at.LISTED], 0, -1)


@kernel
def has_moved(ctx: NDArray) -> bool:
    """Whether a geom has moved further since the pairs were listed than the list allows."""
    if load_i64(ctx[at.LISTED], 0) < 0:
        return True
    for mover in range(ctx[at.NUM_MOVERS]):
        position, total = load_i64(ctx[at.MOVERS], mover), 0.0
        for i in range(3):
            difference = load_f64(position, i) - load_f64(ctx[at.PLACES], 3 * mover + i)
            total += difference * difference
        if not total <= (at.SKIN / 2) ** 2:
            return True
    return False


@kernel
def list_pairs(ctx: NDArray) -> None:
    """List the pairs that may become near while no geom moves by more than half the skin."""
    for mover in range(ctx[at.NUM_MOVERS]):
        for i in range(3):
            store_f64(
                ctx[at.PLACES], 3 * mover + i, load_f64(load_i64(ctx[at.MOVERS], mover), i)
            )
    count = 0
    for pair in range(ctx[at.NUM_PAIRS]):
        if not is_near(ctx[at.PAIRS] + 8 * at.PAIR_SIZE * pair, at.PAIR_WIDE):
            continue
        box = ctx[at.BOXES] + 8 * at.BOX_SIZE * pair
        first, second = box + 8 * at.BOX_FIRST, box + 8 * at.BOX_SECOND
        if load_i64(box, at.BOX_USED) != at.BOXES_UNUSED and (
            is_outside(first, second, at.BOX_WIDE) or is_outside(second, first, at.BOX_WIDE)
        ):
            continue
        count += 1
        store_i64(ctx[at.LISTED], count, pair)
    store_i64(ctx[at.LISTED], 0, count)


@kernel
def collide(ctx: NDArray) -> None:
    """``mj_collision`` on the pairs that are near."""
    near, listed = 0, ctx[at.LISTED]
    if has_moved(ctx):
        list_pairs(ctx)
    for place in range(load_i64(listed, 0)):
        pair = load_i64(listed, 1 + place)
        if may_touch(ctx, pair):
            column = ctx[at.COLUMNS]
            for _ in range(at.NUM_COLUMNS):
                words = load_i64(column, 2)
                for word in range(words):
                    value = load_i32(load_i64(column, 0), words * pair + word)
                    store_i32(load_i64(column, 1), words * near + word, value)
                column += 8 * at.COLUMN_SIZE
            near += 1
    store_i32(ctx[at.NUM_NEAR], 0, near)
    call_two(ctx[at.MJ_COLLISION], ctx[at.PAIR_MODEL], ctx[at.DATA])


@kernel
def forward(ctx: NDArray, kinematics_model: int) -> None:
    """``mj_forward``"""
    model, data = ctx[at.MODEL], ctx[at.DATA]
    call_two(ctx[at.MJ_KINEMATICS], kinematics_model, data)
    call_two(ctx[at.MJ_COMPOS], model, data)
    call_two(ctx[at.MJ_CRB], model, data)
    call_two(ctx[at.MJ_FACTORM], model, data)
    collide(ctx)
    call_two(ctx[at.MJ_MAKECONSTRAINT], model, data)
    call_two(ctx[at.MJ_TRANSMISSION], model, data)
    call_two(ctx[at.MJ_FWDVELOCITY], model, data)
    call_two(ctx[at.MJ_FWDACTUATION], model, data)
    call_two(ctx[at.MJ_FWDACCELERATION], model, data)
    call_two(ctx[at.MJ_FWDCONSTRAINT], model, data)


@kernel
def is_bad(address: int, count: int) -> bool:
    """Whether MuJoCo would call one of these numbers bad: NaN, or too large."""
    bad = False
    for i in range(count):
        bad |= not abs(load_f64(address, i)) <= LARGEST
    return bad


@kernel
def is_diverged(ctx: NDArray) -> bool:
    return is_bad(ctx[at.DATA_QPOS], ctx[at.NQ]) or is_bad(ctx[at.DATA_QVEL], ctx[at.NV])


@kernel
def forward_again(ctx: NDArray) -> None:
    """``mj_forward`` where only controls and mocap position have changed since the last."""
    model, data = ctx[at.MODEL], ctx[at.DATA]
    for i in range(3):
        store_f64(ctx[at.MOCAP_XPOS], i, load_f64(ctx[at.DATA_MOCAP_POS], i))
    call_two(ctx[at.MJ_MAKECONSTRAINT], model, data)
    call_two(ctx[at.MJ_REFERENCECONSTRAINT], model, data)
    call_two(ctx[at.MJ_FWDACTUATION], model, data)
    call_two(ctx[at.MJ_FWDACCELERATION], model, data)
    call_two(ctx[at.MJ_FWDCONSTRAINT], model, data)


@kernel
def step(ctx: NDArray, again: bool) -> bool:
    """``mj_step``. False if the simulation diverged, which MuJoCo's own functions then handle by a reset."""
    if again:
        forward_again(ctx)
    elif is_diverged(ctx):
        call_two(ctx[at.MJ_STEP], ctx[at.MODEL], ctx[at.DATA])
        return False
    else:
        forward(ctx, ctx[at.STEP_MODEL])
    sound = not is_bad(ctx[at.DATA_QACC], ctx[at.NV])
    if not sound:
        call_two(ctx[at.MJ_CHECKACC], ctx[at.MODEL], ctx[at.DATA])
    call_two(ctx[at.MJ_EULER], ctx[at.MODEL], ctx[at.DATA])
    return sound


@kernel
def pads_may_touch(ctx: NDArray) -> bool:
    """Whether both finger pads may touch the task's touch geom."""
    left, right = ctx[at.LEFT_PAIR], ctx[at.RIGHT_PAIR]
    return left >= 0 and right >= 0 and may_touch(ctx, left) and may_touch(ctx, right)


@kernel
def advance(ctx: NDArray, again: bool) -> bool:
    """Runs five ``mj_step``, then the part of ``mj_forward`` that the observation needs.

    Stock runs the whole ``mj_forward`` before it observes. The rest updates the warm start, which changes the next
    step; the next step runs it, because its first ``mj_forward`` shares most of the work.

    Args:
        ctx: the simulation.
        again: the last ``mj_forward`` was on the present state, but for controls and mocap position.

    Returns:
        Whether that rest is still owed.
    """
    sound = step(ctx, again)
    for _ in range(FRAME_SKIP - 1):
        sound &= step(ctx, False)
    if not sound:
        call_two(ctx[at.MJ_FORWARD], ctx[at.MODEL], ctx[at.DATA])
        return False
    call_two(ctx[at.MJ_KINEMATICS], ctx[at.MODEL], ctx[at.DATA])
    if not pads_may_touch(ctx):
        return True
    forward(ctx, ctx[at.MODEL])
    return False
