"""
Train a Stable-Baselines3 algorithm on our environments
=======================================================

``SB3VecEnv`` makes one of our environments an SB3 ``VecEnv``, for SB3's algorithms, wrappers and callbacks. It needs
the extra ``sb3``. SB3's SAC and PPO are also methods of the suite: ``--method sb3-ppo``.
"""

# %%
# Policies see the observation with the one-hot code of the task behind it; MiniGrid's categories become one-hot codes.
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

from mtrl import MTPPO, make_vec
from mtrl.sb3 import SB3VecEnv

vec = SB3VecEnv(make_vec("mg3", envs_per_task=2, seed=0))
print(vec.num_envs, vec.observation_space.shape)
model = PPO("MlpPolicy", vec, n_steps=32, batch_size=64, n_epochs=1, device="cpu", seed=0)
model.learn(192)

# %%
# The other way round, our agents take SB3's callbacks and ``evaluate_policy``. ``encode=False`` gives them the
# environment's own observations; it needs as many environments as the agent trains in.
env = make_vec("mg3", envs_per_task=2, seed=0)
agent = MTPPO(env, device="cpu", width=16, rollout_per_task=40, minibatches=2, epochs=1).learn(
    240
)
mean, std = evaluate_policy(
    agent, SB3VecEnv(make_vec("mg3", 2, seed=1), encode=False), n_eval_episodes=6, warn=False
)
print(f"mean return {mean:.2f} ± {std:.2f}")
