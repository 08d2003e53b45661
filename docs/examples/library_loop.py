"""
Train with your own loop
========================

``agent.learn`` trains to a number of env steps. This program calls ``advance`` itself, evaluates in between, and stops
when a task is solved.
"""

# %%
# Make two MiniGrid levels of a suite of our own and an agent for them. Arrays are task-major: rows 0 to 3 of every
# array belong to the first task, rows 4 to 7 to the second.
from mtrl import MTPPO, Evaluator, Suite, get_suite, make_vec

easy = [get_suite(f"mg1:{name}").tasks[0] for name in ("Empty-5x5", "Empty-Random-5x5")]
like = get_suite("mg3")
suite = Suite(
    "easy2",
    like.family,
    tuple(easy),
    like.reward_version,
    like.success,
    like.goals,
    like.discrete,
)
env = make_vec(suite, envs_per_task=4, seed=0)
agent = MTPPO(env, seed=0, device="cpu", width=32, rollout_per_task=400, minibatches=4, epochs=4,
              learning_rate=1e-3, std_learning_rate=1e-3, schedule="constant")  # fmt: skip

# %%
# The evaluator has environments of its own. ``goals="cycle"`` plays the same levels in every evaluation, none of which
# training can draw.
evaluator = Evaluator(
    make_vec(suite, envs_per_task=4, seed=1, goals="cycle"), episodes_per_task=8
)

# %%
# ``begin`` tells schedules where training ends. One ``advance`` of MTPPO is a rollout and its update.
budget = 16_000
agent.begin(budget)
while agent.env_steps < budget:
    agent.advance()
    losses = agent.metrics()
    if agent.env_steps % 4_000 == 0:
        results = evaluator.evaluate(agent)
        rates = {name: result.success_rate for name, result in results.items()}
        print(agent.env_steps, rates, f"entropy {losses['train/entropy']:.2f}")

# %%
# A file holds the parameters and everything that makes the agent again.
agent.save("agent.safetensors")
again = MTPPO.load("agent.safetensors", env=env)
assert again.env_steps == agent.env_steps
