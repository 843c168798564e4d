"""The settings that neighbours on the GPU are asked by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Settings:
    unload_ollama_base_url: str | None = None
    unload_ollama_model: str | None = None
    unload_llama_swap_base_url: str | None = None
    unload_llama_cpp_base_url: str | None = None
    unload_vllm_base_url: str | None = None
    unload_lm_studio_base_url: str | None = None
    unload_external_model_timeout: float = 30.0
