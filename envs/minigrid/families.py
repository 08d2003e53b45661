"""Numbers of the level generators (families) and of the reward rules, as the task table holds them."""

from __future__ import annotations

(
    EMPTY_ROOM,
    DIST_SHIFT,
    LAVA_GAP,
    CROSSING,
    FOUR_ROOMS,
    DOOR_KEY,
    RED_BLUE_DOORS,
    MEMORY,
    DYNAMIC_OBSTACLES,
    FETCH,
    GO_TO_DOOR,
    GO_TO_OBJECT,
    PUT_NEAR,
    KEY_CORRIDOR,
    UNLOCK,
    OBSTRUCTED_MAZE,
    MULTI_ROOM,
    BABYAI_GO_TO_LOCAL,
    BABYAI_PICKUP_DISTRACTOR,
    BABYAI_PICKUP_BY_PLACE,
    BABYAI_PUT_NEXT_LOCAL,
    BABYAI_DOORS,
) = range(22)

(
    REACH_GOAL,
    AVOID,
    TAKE,
    DONE_BESIDE,
    DROP_NEAR,
    TWO_DOORS,
    MATCH,
    OPEN_FLAGGED,
    PICK_UP_FLAGGED,
    FACE_FLAGGED,
    DROP_NEXT_TO,
) = range(11)
