"""Constants for names of models, as in Mellea 0.8: `start_session("ollama", model_ids.QWEN3_8B)`.

A constant is a text, the name of the model in Ollama's library, and `hf_model_name` is the one on Hugging Face, which
servers such as vLLM use. Any other string works as a name, too.
"""

from __future__ import annotations

__all__ = ["ModelIdentifier"]


class ModelIdentifier(str):
    """The name of a model, and its names elsewhere.

    Args:
        name: the name that is sent.
        hf_model_name: the name on Hugging Face.

    Attributes:
        ollama_name: the name in Ollama's library.
        openai_name: the name on a server with OpenAI's API.
    """

    hf_model_name: str | None
    ollama_name: str | None
    openai_name: str | None

    def __new__(
        cls,
        name: str | None = None,
        hf_model_name: str | None = None,
        *,
        ollama_name: str | None = None,
        openai_name: str | None = None,
    ) -> ModelIdentifier:
        """Create a name; the first argument is the name that is sent."""
        ollama_name = ollama_name or name
        made = super().__new__(cls, ollama_name or openai_name or hf_model_name or "")
        made.hf_model_name, made.ollama_name, made.openai_name = hf_model_name, ollama_name, openai_name
        return made


DEEPSEEK_R1_8B = ModelIdentifier("deepseek-r1:8b", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B")
GOOGLE_GEMMA_3N_E4B = ModelIdentifier("gemma3n:e4b", "google/gemma-3n-e4b-it")
HF_SMOLLM2_2B = ModelIdentifier("smollm2:1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct")
HF_SMOLLM3_3B_no_ollama = ModelIdentifier(hf_model_name="HuggingFaceTB/SmolLM3-3B")
IBM_GRANITE_3_2_8B = ModelIdentifier("granite3.2:8b", "ibm-granite/granite-3.2-8b-instruct")
IBM_GRANITE_3_3_8B = ModelIdentifier("granite3.3:8b", "ibm-granite/granite-3.3-8b-instruct")
IBM_GRANITE_3_3_VISION_2B = ModelIdentifier("ibm/granite3.3-vision:2b", "ibm-granite/granite-vision-3.3-2b")
IBM_GRANITE_4_1_30B = ModelIdentifier("granite4.1:30b", "ibm-granite/granite-4.1-30b")
IBM_GRANITE_4_1_3B = ModelIdentifier("granite4.1:3b", "ibm-granite/granite-4.1-3b")
IBM_GRANITE_4_1_8B = ModelIdentifier("granite4.1:8b", "ibm-granite/granite-4.1-8b")
IBM_GRANITE_4_2_30B = ModelIdentifier("granite4.2:30b", "ibm-granite/granite-4.2-30b")
IBM_GRANITE_4_2_3B = ModelIdentifier("granite4.2:3b", "ibm-granite/granite-4.2-3b")
IBM_GRANITE_4_2_8B = ModelIdentifier("granite4.2:8b", "ibm-granite/granite-4.2-8b")
IBM_GRANITE_4_HYBRID_1B = ModelIdentifier("granite4:1b-h", "ibm-granite/granite-4.0-h-1b")
IBM_GRANITE_4_HYBRID_350m = ModelIdentifier("granite4:350m-h", "ibm-granite/granite-4.0-h-350m")
IBM_GRANITE_4_HYBRID_MICRO = ModelIdentifier("granite4:micro-h", "ibm-granite/granite-4.0-h-micro")
IBM_GRANITE_4_HYBRID_SMALL = ModelIdentifier("granite4:small-h", "ibm-granite/granite-4.0-h-small")
IBM_GRANITE_4_HYBRID_TINY = ModelIdentifier("granite4:tiny-h", "ibm-granite/granite-4.0-h-tiny")
IBM_GRANITE_4_MICRO_3B = ModelIdentifier("granite4:micro", "ibm-granite/granite-4.0-micro")
IBM_GRANITE_4_TINY_PREVIEW_7B = ModelIdentifier(hf_model_name="ibm-granite/granite-4.0-tiny-preview")
IBM_GRANITE_4_TINY_PREVIEW_BASE_7B = ModelIdentifier(hf_model_name="ibm-granite/granite-4.0-tiny-base-preview")
IBM_GRANITE_GUARDIAN_3_0_2B = ModelIdentifier("granite3-guardian:2b", "ibm-granite/granite-guardian-3.0-2b")
IBM_GRANITE_GUARDIAN_4_1_8B = ModelIdentifier(hf_model_name="ibm-granite/granite-guardian-4.1-8b")
IBM_GRANITE_SWITCH_4_1_30B_PREVIEW = ModelIdentifier(hf_model_name="ibm-granite/granite-switch-4.1-30b-preview")
IBM_GRANITE_SWITCH_4_1_3B_PREVIEW = ModelIdentifier(hf_model_name="ibm-granite/granite-switch-4.1-3b-preview")
IBM_GRANITE_SWITCH_4_1_8B_PREVIEW = ModelIdentifier(hf_model_name="ibm-granite/granite-switch-4.1-8b-preview")
IBM_GRANITE_VISION_4_1_4B = ModelIdentifier(
    "hf.co/ibm-granite/granite-vision-4.1-4b-GGUF:Q4_K_M", "ibm-granite/granite-vision-4.1-4b"
)
META_LLAMA_3_2_1B = ModelIdentifier("llama3.2:1b", "unsloth/Llama-3.2-1B")
META_LLAMA_3_2_3B = ModelIdentifier("llama3.2:3b", "unsloth/Llama-3.2-3B-Instruct")
META_LLAMA_3_3_70B = ModelIdentifier("llama3.3:70b", "unsloth/Llama-3.3-70B-Instruct")
META_LLAMA_4_MAVERICK_17B_128E_INSTRUCT = ModelIdentifier(
    "llama4:maverick", "unsloth/Llama-4-Maverick-17B-128E-Instruct"
)
META_LLAMA_4_SCOUT_17B_16E_INSTRUCT = ModelIdentifier("llama4:scout", "unsloth/Llama-4-Scout-17B-16E-Instruct")
META_LLAMA_GUARD3_1B = ModelIdentifier("llama-guard3:1b", "meta-llama/Llama-Guard-3-1B")
MISTRALAI_MISTRAL_0_3_7B = ModelIdentifier("mistral:7b", "mistralai/Mistral-7B-Instruct-v0.3")
MISTRALAI_MISTRAL_LARGE_123B = ModelIdentifier("mistral-large:latest", "mistralai/Mistral-Large-Instruct-2411")
MISTRALAI_MISTRAL_SMALL_24B = ModelIdentifier("mistral-small:latest", "mistralai/Mistral-Small-3.1-24B-Instruct-2503")
MS_PHI_4_14B = ModelIdentifier("phi4:14b", "microsoft/phi-4")
MS_PHI_4_MINI_REASONING_4B = ModelIdentifier("phi4-mini-reasoning:3.8b", "microsoft/Phi-4-mini-flash-reasoning")
NVIDIA_LLAMA_3_1_NEMOTRON_70B = ModelIdentifier(
    "nemotron:70b", "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF", openai_name="nvidia/llama-3.1-nemotron-70b-instruct"
)
NVIDIA_LLAMA_3_1_NEMOTRON_NANO_8B = ModelIdentifier(
    hf_model_name="nvidia/Llama-3.1-Nemotron-Nano-8B-v1", openai_name="nvidia/llama-3.1-nemotron-nano-8b-v1"
)
NVIDIA_LLAMA_3_1_NEMOTRON_ULTRA_253B = ModelIdentifier(
    hf_model_name="nvidia/Llama-3_1-Nemotron-Ultra-253B-v1", openai_name="nvidia/llama-3.1-nemotron-ultra-253b-v1"
)
NVIDIA_LLAMA_3_3_NEMOTRON_SUPER_49B = ModelIdentifier(
    hf_model_name="nvidia/Llama-3_3-Nemotron-Super-49B-v1_5", openai_name="nvidia/llama-3.3-nemotron-super-49b-v1.5"
)
NVIDIA_NEMOTRON_3_NANO_30B_A3B = ModelIdentifier("nemotron-3-nano:30b", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")
NVIDIA_NEMOTRON_3_NANO_4B = ModelIdentifier("nemotron-3-nano:4b", "nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16")
NVIDIA_NEMOTRON_3_NANO_OMNI_30B_A3B = ModelIdentifier(
    "nemotron3:33b",
    "nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-BF16",
    openai_name="nvidia/nemotron-3-nano-omni-30b-a3b-reasoning",
)
NVIDIA_NEMOTRON_3_SUPER_120B_A12B = ModelIdentifier(
    "nemotron-3-super:120b",
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
    openai_name="nvidia/nemotron-3-super-120b-a12b",
)
NVIDIA_NEMOTRON_3_ULTRA_550B_A55B = ModelIdentifier(
    "nemotron-3-ultra:cloud",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
    openai_name="nvidia/nemotron-3-ultra-550b-a55b",
)
NVIDIA_NEMOTRON_MINI_4B = ModelIdentifier(
    "nemotron-mini:4b", "nvidia/Nemotron-Mini-4B-Instruct", openai_name="nvidia/nemotron-mini-4b-instruct"
)
NVIDIA_NEMOTRON_NANO_12B_V2 = ModelIdentifier(hf_model_name="nvidia/NVIDIA-Nemotron-Nano-12B-v2")
NVIDIA_NEMOTRON_NANO_9B_V2 = ModelIdentifier(
    hf_model_name="nvidia/NVIDIA-Nemotron-Nano-9B-v2", openai_name="nvidia/nvidia-nemotron-nano-9b-v2"
)
OPENAI_GPT_OSS_120B = ModelIdentifier("gpt-oss:120b", "openai/gpt-oss-120b")
OPENAI_GPT_OSS_20B = ModelIdentifier("gpt-oss:20b", "openai/gpt-oss-20b")
QWEN3_0_6B = ModelIdentifier("qwen3:0.6b", "Qwen/Qwen3-0.6B")
QWEN3_14B = ModelIdentifier("qwen3:14b", "Qwen/Qwen3-14B")
QWEN3_1_7B = ModelIdentifier("qwen3:1.7b", "Qwen/Qwen3-1.7B")
QWEN3_8B = ModelIdentifier("qwen3:8b", "Qwen/Qwen3-8B")
OPENAI_GPT_5_1 = ModelIdentifier(openai_name="gpt-5.1")
