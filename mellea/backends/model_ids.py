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


GOOGLE_GEMMA_3N_E4B = ModelIdentifier("gemma3n:e4b", "google/gemma-3n-e4b-it")
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
IBM_GRANITE_4_HYBRID_MICRO = ModelIdentifier("granite4:micro-h", "ibm-granite/granite-4.0-h-micro")
IBM_GRANITE_4_HYBRID_SMALL = ModelIdentifier("granite4:small-h", "ibm-granite/granite-4.0-h-small")
IBM_GRANITE_4_HYBRID_TINY = ModelIdentifier("granite4:tiny-h", "ibm-granite/granite-4.0-h-tiny")
IBM_GRANITE_4_MICRO_3B = ModelIdentifier("granite4:micro", "ibm-granite/granite-4.0-micro")
META_LLAMA_3_2_1B = ModelIdentifier("llama3.2:1b", "unsloth/Llama-3.2-1B")
META_LLAMA_3_2_3B = ModelIdentifier("llama3.2:3b", "unsloth/Llama-3.2-3B-Instruct")
META_LLAMA_3_3_70B = ModelIdentifier("llama3.3:70b", "unsloth/Llama-3.3-70B-Instruct")
META_LLAMA_4_MAVERICK_17B_128E_INSTRUCT = ModelIdentifier(
    "llama4:maverick", "unsloth/Llama-4-Maverick-17B-128E-Instruct"
)
META_LLAMA_4_SCOUT_17B_16E_INSTRUCT = ModelIdentifier("llama4:scout", "unsloth/Llama-4-Scout-17B-16E-Instruct")
MISTRALAI_MISTRAL_0_3_7B = ModelIdentifier("mistral:7b", "mistralai/Mistral-7B-Instruct-v0.3")
MISTRALAI_MISTRAL_LARGE_123B = ModelIdentifier("mistral-large:latest", "mistralai/Mistral-Large-Instruct-2411")
MISTRALAI_MISTRAL_SMALL_24B = ModelIdentifier("mistral-small:latest", "mistralai/Mistral-Small-3.1-24B-Instruct-2503")
MS_PHI_4_14B = ModelIdentifier("phi4:14b", "microsoft/phi-4")
NVIDIA_NEMOTRON_3_NANO_30B_A3B = ModelIdentifier("nemotron-3-nano:30b", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")
OPENAI_GPT_OSS_120B = ModelIdentifier("gpt-oss:120b", "openai/gpt-oss-120b")
OPENAI_GPT_OSS_20B = ModelIdentifier("gpt-oss:20b", "openai/gpt-oss-20b")
QWEN3_0_6B = ModelIdentifier("qwen3:0.6b", "Qwen/Qwen3-0.6B")
QWEN3_14B = ModelIdentifier("qwen3:14b", "Qwen/Qwen3-14B")
QWEN3_1_7B = ModelIdentifier("qwen3:1.7b", "Qwen/Qwen3-1.7B")
QWEN3_8B = ModelIdentifier("qwen3:8b", "Qwen/Qwen3-8B")
OPENAI_GPT_5_1 = ModelIdentifier(openai_name="gpt-5.1")
