"""
Make a suite of any gymnasium environments
==========================================

A YAML file lists gymnasium ids and says what success is. The suite then has what the suites that ship have: training,
evaluation with counts, records and a row on the leaderboard.
"""

from pathlib import Path

from mtrl import MTPPO, Evaluator, make_vec

# %%
# Observations have 4, 6 and 2 entries, so narrower ones are filled up with zeros. MountainCar and Acrobot have three
# actions; ``actions`` leaves out the one that does nothing, so that all tasks have the same two.
Path("pushes.yaml").write_text("""
name: pushes
tasks:
  - id: CartPole-v1
    success: {return: 100}         # of the whole episode, a step is worth 1
    horizon: 200                   # gymnasium's own is 500
  - id: Acrobot-v1
    success: {return: -150}        # a step costs 1
    actions: [0, 2]
    groups: [swing-up]
  - id: MountainCar-v0
    success: {return: -150}
    actions: [0, 2]
    groups: [swing-up]
""")
env = make_vec("pushes.yaml", envs_per_task=4, seed=0)
print(env.suite.id, env.single_observation_space, env.single_action_space)

# %%
# Everything else is as in any suite. On the command line: ``python -m mtrl.train pushes.yaml``.
agent = MTPPO(env, device="cpu", width=32, rollout_per_task=400, minibatches=4, epochs=4)
agent.learn(2_400)
evaluator = Evaluator(make_vec("pushes.yaml", 4, seed=1, goals="cycle"), episodes_per_task=8)
for name, result in evaluator.evaluate(agent).items():
    print(f"{name}: {result.successes} of {result.episodes}, return {result.return_mean:.0f}")
