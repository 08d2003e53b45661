"""Where each number lives in the engine's plain arrays. A position takes three places, a scalar the first of three."""

from __future__ import annotations

# World: what a reward function may read of the simulation, gathered after the last mj_forward.
HAND, RIGHT_CLAW, LEFT_CLAW, LEFT_PAD, RIGHT_PAD, RIGHT_TIP, LEFT_TIP = range(0, 21, 3)
TOUCH = 21
READ = 24
MAX_READS = 8
WORLD_SIZE = READ + 3 * MAX_READS

# Init: what the stock environment kept at reset. FIXTURE is the position of the one body that a goal moves.
OBJ_INIT, TARGET, INIT_TCP, HAND_INIT, KEPT = range(0, 15, 3)
MAX_KEPT = 2
FIXTURE = KEPT + 3 * MAX_KEPT
INIT_SIZE = FIXTURE + 3

# State: what changes from step to step. PREVIOUS is the last unclipped half observation, for frame stacking. OWED is 1
# while the warm start still lacks the mj_forward that stock ends a step with, EFFORT being the control in it.
MAX_NQ, MAX_NV = 18, 17
QPOS = 0
QVEL = QPOS + MAX_NQ
WARMSTART = QVEL + MAX_NV
MOCAP = WARMSTART + MAX_NV
PREVIOUS = MOCAP + 3
HALF_OBS = 18
OBS_SIZE = 39
OWED = PREVIOUS + HALF_OBS
EFFORT = OWED + 1
STATE_SIZE = EFFORT + 1

# Out: the reward and the rest of ``info`` (``unscaled_reward`` is the reward in every task).
REWARD, SUCCESS, NEAR_OBJECT, GRASP_SUCCESS, GRASP_REWARD, IN_PLACE_REWARD, OBJ_TO_TARGET = (
    range(7)
)
OUT_SIZE = 7
OUT_NAMES = (
    "reward",
    "success",
    "near_object",
    "grasp_success",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
)

# Bounds: per task, what actions and observations are clipped to, and the constant part of the half observation.
MOCAP_LOW, MOCAP_HIGH, OBS_LOW = 0, 3, 6
OBS_HIGH = OBS_LOW + OBS_SIZE
OBS_BASE = OBS_HIGH + OBS_SIZE
BOUNDS_SIZE = OBS_BASE + HALF_OBS

# Context: one simulation's addresses and sizes, int64; then the observation's rows and the reads' rows.
(
    MJ_STEP,
    MJ_FORWARD,
    REWARD_FUNCTION,
    MODEL,
    DATA,
    DATA_QPOS,
    DATA_QVEL,
    DATA_WARMSTART,
    DATA_MOCAP_POS,
    DATA_MOCAP_QUAT,
    DATA_CTRL,
    MODEL_FIXTURE,
    NQ,
    NV,
    NCON,
    NEFC,
    CONTACTS,
    EFC_FORCE,
    CONTACT_SIZE,
    CONTACT_GEOMS,
    CONTACT_EFC,
    LEFT_PAD_GEOM,
    RIGHT_PAD_GEOM,
    TOUCH_GEOM,
    NUM_ROWS,
    NUM_READS,
    STEP_MODEL,
    PAIR_MODEL,
    NUM_NEAR,
    NUM_PAIRS,
    PAIRS,
    BOXES,
    COLUMNS,
    DATA_QACC,
    MJ_KINEMATICS,
    MJ_COMPOS,
    MJ_CRB,
    MJ_FACTORM,
    MJ_COLLISION,
    MJ_COLLIDEOBB,
    MJ_MAKECONSTRAINT,
    MJ_TRANSMISSION,
    MJ_FWDVELOCITY,
    MJ_FWDACTUATION,
    MJ_FWDACCELERATION,
    MJ_FWDCONSTRAINT,
    MJ_CHECKACC,
    MJ_EULER,
    MJ_REFERENCECONSTRAINT,
    MOCAP_XPOS,
    LEFT_PAIR,
    RIGHT_PAIR,
    NUM_MOVERS,
    MOVERS,
    PLACES,
    LISTED,
    TREES,
    PRODUCTS,
    ROWS,
) = range(59)
ROW_SIZE = 4
# Kinds of row (kind, place in the half observation, address, second address).
COPY3, COPY4, MATRIX_QUAT, DIAL = range(4)

# Pairs of geoms (see ``contacts``): kind, limits, positions of both, matrix of the first; then what boxes them.
SPHERES, PLANE = range(2)
PAIR_KIND, PAIR_LIMIT, PAIR_WIDE, PAIR_FIRST, PAIR_SECOND, PAIR_MATRIX, PAIR_SIZE = range(7)
BOXES_UNUSED, BOXES_SPARED, BOXES_USED = range(3)
BOX_USED, BOX_FIRST, BOX_SECOND, BOX_MARGIN, BOX_SIZE = 0, 1, 6, 11, 12
BOX_AABB, BOX_POS, BOX_MAT, BOX_REACH, BOX_WIDE = range(5)
NUM_COLUMNS, COLUMN_SIZE = 9, 3
# What MuJoCo tests in two bodies' trees of boxes before it comes to a pair: frames, margin, boxes of nodes two by two.
TREE_POS1, TREE_MAT1, TREE_POS2, TREE_MAT2, TREE_MARGIN, TREE_COUNT, TREE_NODES, TREE_SIZE = (
    range(8)
)
NUM_PRODUCTS, NUM_OFFSETS = 36, 12
SKIN = 0.03
"""In meters: pairs are listed that are up to this far apart, and listed anew when a geom has moved by half of it."""
