"""The number format of matrix products."""

from __future__ import annotations

import torch

from mtrl.agents.errors import unknown

PRECISIONS = ("auto", "bf16", "fp32")


def trunk_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the trunk's matrix products.

    ``auto`` is bfloat16 where the hardware multiplies it natively (CUDA compute capability 8 or newer, CPUs with AMX or
    AVX-512 BF16) and float32 elsewhere. Parameters, optimiser, heads and losses are float32 in either case.

    Raises:
        AgentError: ``precision`` is not one of ``PRECISIONS``.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "auto":
        return torch.bfloat16 if _has_native_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    capabilities = torch.cpu.get_capabilities()
    has_avx512 = capabilities.get("avx512_bf16")
    has_amx = capabilities.get("amx_bf16")
    return bool(has_avx512 or has_amx)
